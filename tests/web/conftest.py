"""The static site for these tests, and the clip for a browser's fake camera; without the built page a test is skipped."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from numclip.web import bundle
from numclip.web.bundle import SiteOptions, write_site
from numclip.web.serve import SiteServer


@pytest.fixture(scope="session")
def built() -> None:
    """Skip unless the page is built."""
    if not (bundle.BUILT / "index.html").is_file():
        pytest.skip("needs the built page: make web")


Serve = Callable[..., SiteServer]


@pytest.fixture(scope="session")
def site(built: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site with the default model."""
    return write_site(SiteOptions(tmp_path_factory.mktemp("site") / "site")).folder


@pytest.fixture(scope="session")
def site_fp32(built: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site with the same model in float32."""
    return write_site(SiteOptions(tmp_path_factory.mktemp("site-fp32") / "site", "age-nano")).folder


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves folders until the end of the test."""
    servers: list[SiteServer] = []

    def start(folder: Path, **options: Any) -> SiteServer:
        server = SiteServer(folder, **options)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def two_people_frames(two_people: Path) -> list[np.ndarray]:
    """The 300 frames of the clip, BGR."""
    capture = cv2.VideoCapture(str(two_people))
    frames: list[np.ndarray] = []
    while True:
        there, frame = capture.read()
        if not there:
            return frames
        frames.append(frame)


@pytest.fixture(scope="session")
def clip(two_people_frames: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The clip in the format of Chromium's fake camera: concatenated JPEGs."""
    path = tmp_path_factory.mktemp("camera") / "two_people.mjpeg"
    jpegs = (cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes() for frame in two_people_frames)
    path.write_bytes(b"".join(jpegs))
    return str(path)


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """The folder for screenshots: NUMCLIP_SCREENSHOTS, for people to look at, else a temporary one."""
    named = os.environ.get("NUMCLIP_SCREENSHOTS")
    folder = Path(named) if named else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    return folder
