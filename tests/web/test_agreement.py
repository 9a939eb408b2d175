"""The browser and Python give the same results for the same pictures and files."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from numclip.runtime.contract.gate import open_gate
from numclip.runtime.faces.detect import Detector
from numclip.runtime.faces.opening import enlarging, open_detector
from numclip.runtime.live.frames import Frame
from numclip.runtime.live.pipeline import Pipeline, Rules
from numclip.runtime.live.results import Face
from numclip.runtime.sessions.model import load

Pictures = list[np.ndarray]


def folder_with(site: Path, folder: Path, pictures: Pictures) -> Path:
    """Copy a site and add pictures."""
    shutil.copytree(site, folder)
    (folder / "frames").mkdir()
    for n, picture in enumerate(pictures):
        assert cv2.imwrite(str(folder / "frames" / f"{n}.png"), picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return folder


def finder() -> Detector:
    """The detector that runs the file that the browser runs."""
    return open_detector(smallest_face_px=Rules.min_face_px, device="cpu")


def python_follows(model: str, frames: Pictures, fps: float) -> list[tuple[Face, ...]]:
    """Return Python's result for every frame, without a limit on model time, as for a file."""
    pipeline = Pipeline(load(model, "cpu"), finder(), Rules())
    return [pipeline.read(Frame(image, i, i / fps, 0.0, "frames")).faces for i, image in enumerate(frames)]


def test_nobody_is_followed_across_a_gap(
    browser: Callable[..., Any], serve: Any, site: Path, two_people_frames: Pictures, tmp_path: Path
) -> None:
    """After a pause of 3 s, and after a step back of 3 s, the same two people have new tracks, as in Python, where each is a new
    segment; a step back of 0.1 s ends no track."""
    pictures = two_people_frames[:12]
    folder = folder_with(site, tmp_path / "site", pictures)
    times_s = [i / 10 for i in range(12)]
    times_s = [*times_s[:3], times_s[1], *(t + 3.0 for t in times_s[4:8]), *times_s[8:]]
    found = browser("agreement", url=serve(folder).url, frames=len(pictures), timesS=times_s)["results"]
    pipeline = Pipeline(load("age-nano.int8", "cpu"), finder(), Rules())
    expected = [
        pipeline.read(Frame(image, i, time_s, 0.0, "frames", segment=i // 4)).faces
        for i, (image, time_s) in enumerate(zip(pictures, times_s, strict=True))
    ]
    tracks = [{face["track"] for face in faces} for faces in found]
    assert tracks == [{face.track_id for face in faces} for faces in expected]
    before, paused, back = (set[int]().union(*tracks[start : start + 4]) for start in (0, 4, 8))
    assert len(before) == len(paused) == len(back) == 2
    assert not before & paused and not paused & back and not before & back


def test_small_faces_in_stills_are_found_as_in_python(
    browser: Callable[..., Any], serve: Any, site_fp32: Path, two_people_frames: Pictures, tmp_path: Path
) -> None:
    """Two people shrunk to faces of 10 to 85 px: stills have the same faces as in Python, which enlarges single pictures; boxes agree
    within 1 px and ages and interval ends within 0.05 years. Without enlarging, Python finds fewer of them."""
    frame = two_people_frames[0]
    scales = (0.08, 0.1, 0.12, 0.15, 0.3, 0.6)
    shrunk = [cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for scale in scales]
    pictures = [
        *(np.asarray(each, np.uint8) for each in shrunk),
        np.hstack([frame, frame]),
    ]  # the last one is two tiles
    folder = folder_with(site_fp32, tmp_path / "site", pictures)
    results = browser("stills", url=serve(folder).url, pictures=len(pictures))["results"]
    found: dict[bool, list[tuple[Face, ...]]] = {}
    for enlarged in (False, True):
        detector = enlarging(finder()) if enlarged else finder()
        pipeline = Pipeline(load("age-nano", "cpu"), detector, Rules(), tracks=False)
        found[enlarged] = [pipeline.read(Frame(picture, 0, 0.0, 0.0, "stills")).faces for picture in pictures]
    px, years = differences([[{"track": None, **face} for face in faces] for faces in results], found[True])
    print(f"{len(px)} faces: boxes differ by at most {px.max():.4f} px, {len(years)} ages by {years.max():.5f} years")
    assert px.max() < 1
    assert years.max() < 0.05
    assert sum(map(len, found[False])) < len(px)


def differences(browser: list[list[dict[str, Any]]], python: list[tuple[Face, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Return box differences (px) and age differences (years) of all faces with an age; tracks and ages must be present in both."""
    px: list[float] = []
    years: list[float] = []
    for frame, (found, expected) in enumerate(zip(browser, python, strict=True)):
        assert [f["track"] for f in found] == [f.track_id for f in expected], f"tracks of frame {frame}"
        for ours, theirs in zip(found, expected, strict=True):
            px.append(float(np.abs(np.subtract(ours["box"], theirs.box_xyxy)).max()))
            assert (ours["value"] is None) == (theirs.reading is None), f"frame {frame}"
            if theirs.reading is not None:
                ends = theirs.reading.interval(0.9)
                pairs = [(ours["value"], theirs.reading.value), (ours["low"], ends[0]), (ours["high"], ends[1])]
                years.append(max(abs(a - b) for a, b in pairs))
    return np.array(px), np.array(years)


def test_300_frames_have_the_same_tracks_boxes_and_ages(
    browser: Callable[..., Any], serve: Any, site_fp32: Path, two_people_frames: Pictures, tmp_path: Path
) -> None:
    """In float32 track ids are the same, boxes agree within 1 px, and ages and interval ends within 0.05 years."""
    folder = folder_with(site_fp32, tmp_path / "site", two_people_frames)
    results = browser("agreement", url=serve(folder).url, frames=len(two_people_frames), fps=30)["results"]
    px, years = differences(results, python_follows("age-nano", two_people_frames, 30))
    print(f"{len(px)} faces: boxes differ by at most {px.max():.4f} px, {len(years)} ages by {years.max():.5f} years")
    assert len(years) > 400
    assert px.max() < 1
    assert years.max() < 0.05


def test_int8_differs_from_native_int8_by_no_more_than_its_parity_row(
    browser: Callable[..., Any], serve: Any, site: Path, two_people_frames: Pictures, tmp_path: Path
) -> None:
    """In INT8 ages differ at most as much as the file's parity row states, because integer products round differently per CPU."""
    frames = two_people_frames[:90]
    folder = folder_with(site, tmp_path / "site", frames)
    results = browser("agreement", url=serve(folder).url, frames=len(frames), fps=30)["results"]
    px, years = differences(results, python_follows("age-nano.int8", frames, 30))
    row = json.loads(load("age-nano.int8", "cpu").spec.to_json())["parity"]["int8"]
    print(f"{len(px)} faces: boxes {px.max():.4f} px, ages mean {years.mean():.4f}, most {years.max():.4f} years")
    assert px.max() < 1
    assert years.mean() <= row["mean"]
    assert years.max() <= row["p99"]


@pytest.mark.slow
def test_500_faces_get_the_same_answers_at_the_gate(
    browser: Callable[..., Any], serve: Any, site_fp32: Path, shared_data: Path, tmp_path: Path
) -> None:
    """With a gate at 18 years and 10 %, each of 500 portraits gets the same answer: yes, no, ask, or no face."""
    pictures = portraits(shared_data, 500)
    folder = folder_with(site_fp32, tmp_path / "site", pictures)
    results = browser("stills", url=serve(folder).url, pictures=len(pictures), gate={"threshold": 18})["results"]
    model = load("age-nano", "cpu")
    pipeline = Pipeline(model, enlarging(finder()), Rules(gate=open_gate(model.spec, 18)), tracks=False)
    counts: dict[str, int] = {}
    for n, (picture, found) in enumerate(zip(pictures, results, strict=True)):
        expected = pipeline.read(Frame(picture, n, 0.0, 0.0, "pictures")).faces
        answers = [None if face.gate is None else face.gate.answer for face in expected]
        assert [face["answer"] for face in found] == answers, f"picture {n}"
        for answer in answers:
            counts[str(answer)] = counts.get(str(answer), 0) + 1
    print(f"500 portraits: {counts}")
    assert min(counts[answer] for answer in ("yes", "no", "ask")) > 20


def portraits(shared_data: Path, many: int) -> Pictures:
    """Return portraits spread evenly over two test splits."""
    pictures: Pictures = []
    for name in ("utkface", "aaf"):
        with (shared_data / "data" / f"{name}.csv").open(encoding="utf-8") as table:
            files = [row["file"] for row in csv.DictReader(table) if row["split"] == "test"]
        wanted = set(files[:: len(files) // (many // 2)][: many // 2])
        with tarfile.open(shared_data / "data" / f"{name}.tar") as archive:
            for member in archive:
                if member.name.partition("/")[2] in wanted or member.name in wanted:
                    data = archive.extractfile(member)
                    assert data is not None
                    pictures.append(
                        np.asarray(cv2.imdecode(np.frombuffer(data.read(), np.uint8), cv2.IMREAD_COLOR), np.uint8)
                    )
    assert len(pictures) == many
    return pictures
