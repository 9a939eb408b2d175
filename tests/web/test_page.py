"""The page in a real Chromium: what a visitor sees, and the browser's network requests."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import numclip
from numclip.runtime.contract.model_file import MODELS, message, read_spec

DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844, "deviceScaleFactor": 2, "isMobile": True}
CACHED_S = 3600  # as in docs/web.md


def test_after_loading_nothing_is_asked_and_a_second_visit_needs_no_network(
    browser: Any, serve: Any, site: Path, clip: str
) -> None:
    """After loading, the page makes no request; a second visit makes none either; without a network it still runs, cross-origin
    isolated, so that it may use threads."""
    server = serve(site, max_age_s=CACHED_S)
    seen = browser("visits", url=server.url, clip=clip)
    start, end = (server.requests.index(f"/second-visit{mark}") for mark in ("", "-over"))
    print(f"first paint {seen['paintMs']:.0f} ms, first age {seen['firstAgeMs']} ms after the click")
    assert seen["whileLive"] == []
    assert server.requests[start + 1 : end] == []
    assert seen["offline"] == "ages"
    assert seen["isolated"] is True
    assert seen["said"] == []


def test_what_comes_before_the_first_paint_is_small(site: Path) -> None:
    """Before the first paint the page needs at most 25 kB (8 kB gzipped); its script is a module and does not block."""
    first = [(site / name).read_bytes() for name in ("index.html", "app.css")]
    assert sum(map(len, first)) < 25_000
    assert sum(len(gzip.compress(data)) for data in first) < 8_000
    assert re.findall(r"<script[^>]*>", first[0].decode()) == ['<script type="module" src="app.js">']


def test_a_host_without_headers_runs_on_one_thread_and_says_so(browser: Any, serve: Any, site: Path, clip: str) -> None:
    """On a static host that cannot set headers, the page runs on one thread and says so."""
    seen = browser("screens", url=serve(site, isolated=False).url, state="live", clip=clip)
    assert seen["mode"] == "live"
    assert seen["threads"] == "1"
    assert "one thread" in seen["note"]


AXE = [
    (state, look)
    for state in ("welcome", "live", "gate")
    for look in ("desktop", "desktop-dark", "phone", "phone-dark")
]
QUICK = {
    ("welcome", "desktop"),
    ("live", "desktop"),
    ("gate", "phone-dark"),
}  # the other combinations take a minute or two


@pytest.mark.parametrize(
    ("state", "look"), [each if each in QUICK else pytest.param(*each, marks=pytest.mark.slow) for each in AXE]
)
def test_axe_finds_no_serious_fault(
    browser: Any, serve: Any, site: Path, clip: str, screenshots: Path, state: str, look: str
) -> None:
    """axe finds no serious violation in each state, light and dark, on desktop and phone; nothing is wider than the window."""
    seen = browser(
        "screens",
        url=serve(site).url,
        state=state,
        clip=clip,
        folder=str(screenshots),
        name=f"{state}-{look}",
        viewport=PHONE if "phone" in look else DESKTOP,
        dark="dark" in look,
        axe=True,
    )
    assert seen["said"] == []
    assert [fault for fault in seen["faults"] if fault["impact"] in ("serious", "critical")] == []
    assert not seen["wide"]
    if state != "welcome":
        assert len(seen["people"]) >= 1
        assert "years" in seen["spoken"]
    if state == "gate":
        assert all("yes" in person or "ask" in person or "no" in person for person in seen["people"])


def test_a_still_picture_is_read(
    browser: Any, serve: Any, site: Path, hopper: np.ndarray, tmp_path: Path, screenshots: Path
) -> None:
    """A chosen file with Grace Hopper's portrait gives as many faces as Python, one of them with an age."""
    cv2.imwrite(str(tmp_path / "portrait.png"), hopper)
    seen = browser(
        "screens", url=serve(site).url, state="still", picture=str(tmp_path / "portrait.png"),
        folder=str(screenshots), name="still",
    )  # fmt: skip
    assert seen["mode"] == "still"
    assert len(seen["people"]) == len(numclip.read(hopper).faces)
    assert any("years" in person for person in seen["people"])


def test_a_picture_chosen_while_the_model_loads_is_read(
    browser: Any, serve: Any, site: Path, hopper: np.ndarray, clip: str, tmp_path: Path
) -> None:
    """If the visitor starts the camera and then chooses a picture before the model is loaded, the picture is read and stays."""
    cv2.imwrite(str(tmp_path / "portrait.png"), hopper)
    seen = browser("screens", url=serve(site).url, state="early", picture=str(tmp_path / "portrait.png"), clip=clip)
    assert seen["mode"] == "still"
    assert len(seen["people"]) == len(numclip.read(hopper).faces)


@pytest.mark.parametrize(
    ("state", "code", "options"),
    [
        ("problem", "camera-none", {"camera": "none"}),
        ("problem", "camera-refused", {"camera": "refused"}),
        ("unplugged", "camera-lost", {}),
        ("badPicture", "picture", {"picture": __file__}),
    ],
)
def test_a_camera_or_picture_that_fails_gets_one_clear_screen(
    browser: Any, serve: Any, site: Path, clip: str, screenshots: Path, state: str, code: str, options: dict[str, Any]
) -> None:
    """An absent, denied or unplugged camera, and a file that is not a picture, each get a clear error screen."""
    seen = browser(
        "screens", url=serve(site).url, state=state, clip=clip, folder=str(screenshots), name=code, axe=True, **options
    )
    assert seen["code"] == code
    assert seen["title"]
    assert seen["detail"]
    assert [fault for fault in seen["faults"] if fault["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize(
    "code", ["model-empty", "model-corrupt", "model-foreign", "model-schema", "model-graph", "model-fetch"]
)
def test_a_model_that_fails_gets_one_clear_screen(
    browser: Any, serve: Any, site: Path, tmp_path: Path, screenshots: Path, code: str
) -> None:
    """An empty, truncated, foreign or missing model, one with another schema, and an unreadable graph each get a clear error screen."""
    folder = tmp_path / "site"
    shutil.copytree(site, folder)
    file = folder / json.loads((folder / "site.json").read_text())["model"]
    data = file.read_bytes()
    broken = {
        "model-empty": b"",
        "model-corrupt": data[: len(data) // 2],
        "model-foreign": message(7, b"a graph of others"),
        "model-schema": data.replace(b'"schema_version":1', b'"schema_version":9'),
        "model-graph": uncalibrated(b"no graph"),
    }
    if code == "model-fetch":
        file.unlink()
    else:
        file.write_bytes(broken[code])
    seen = browser("screens", url=serve(folder).url, state="problem", folder=str(screenshots), name=code)
    assert seen["code"] == code
    assert "age-nano.int8.onnx" in seen["detail"]


def uncalibrated(graph: bytes) -> bytes:
    """Return a model file with a valid spec and an invalid graph."""
    spec = read_spec(MODELS / "age-nano.onnx").with_calibration(None)
    return message(7, graph) + message(14, message(1, b"numclip") + message(2, spec.to_json().encode()))


@pytest.mark.slow
def test_first_paint_and_first_age_come_soon(browser: Any, serve: Any, site: Path, clip: str) -> None:
    """From localhost the first paint takes under 1 s; on the second visit the first age appears under 3 s after the click."""
    seen = browser("visits", url=serve(site, max_age_s=CACHED_S).url, clip=clip)
    assert seen["paintMs"] < 1000
    assert seen["firstAgeMs"] < 3000


@pytest.mark.slow
def test_a_minute_live_is_smooth(browser: Any, serve: Any, site: Path, clip: str) -> None:
    """Over 60 s on one thread the video has at least 24 frames per second and at least 8 looks per second."""
    seen = browser("minutes", url=serve(site, isolated=False).url, clip=clip, seconds=60, everyFrame=True)
    print(seen)
    assert seen["picturesPerS"] >= 24
    assert seen["looksPerS"] >= 8


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_ten_minutes_live_take_no_more_memory(browser: Any, serve: Any, site: Path, clip: str) -> None:
    """Over ten minutes the memory of page and worker, after garbage collection, is not larger in the last quarter than in the second."""
    seen = browser("minutes", url=serve(site).url, clip=clip, seconds=600, everyMs=30_000)
    sizes = [memory["bytes"] for memory in seen["memories"]]
    print([round(size / 1e6, 1) for size in sizes])
    quarter = len(sizes) // 4
    assert np.mean(sizes[-quarter:]) < 1.1 * np.mean(sizes[quarter : 2 * quarter])


@pytest.mark.slow
def test_firefox_reads_a_picture_and_its_camera(
    browser: Any, serve: Any, site: Path, hopper: np.ndarray, tmp_path: Path
) -> None:
    """In Firefox ESR a still picture gets an age, the fake camera (a test pattern) runs, and the page is cross-origin isolated."""
    firefox = shutil.which("firefox-esr") or shutil.which("firefox")
    if firefox is None:
        pytest.skip("needs Firefox: apt-get install firefox-esr")
    cv2.imwrite(str(tmp_path / "portrait.png"), hopper)
    picture = str(tmp_path / "portrait.png")
    seen = browser("firefox", url=serve(site).url, executable=firefox, browser="firefox", picture=picture)
    assert any("years" in person for person in seen["people"])
    assert seen["live"]
    assert seen["isolated"]
    assert seen["said"] == []
