"""Camera requests, the camera's actual format, and the printed part of an address."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numclip.errors import SourceError, UsageError
from numclip.runtime.live.addresses import shown
from numclip.runtime.live.connections import CameraWish, as_bgr, ask_camera
from numclip.runtime.sinks.video_writer import VideoWriter


@given(st.text("abcXYZ019-_.~", min_size=1), st.text("abcXYZ019-_.~!", min_size=1), st.integers(1, 65535))
def test_credentials_are_hidden(user: str, password: str, port: int) -> None:
    """User, password and query are removed from a URL; host, port and path stay."""
    url = f"rtsp://{user}:{password}@cam.local:{port}/a/b?key={password}"
    assert shown(url) == f"rtsp://cam.local:{port}/a/b"


@given(st.integers(1, 9999), st.integers(1, 9999), st.integers(1, 999), st.sampled_from(["MJPG", "YUYV", None]))
def test_a_wish_is_read(width: int, height: int, fps: int, code: str | None) -> None:
    """A request WIDTHxHEIGHT@FPS:FORMAT is parsed; FPS and FORMAT are optional."""
    text = f"{width}x{height}@{fps}" + ("" if code is None else f":{code}")
    assert CameraWish.from_text(text) == CameraWish(width, height, fps, code)
    assert CameraWish.from_text(f"{width}x{height}") == CameraWish(width, height, 30, None)


@pytest.mark.parametrize("text", ["", "720p", "0x10", "1280x720@", "1280x720@30:MJPEG", "1280x720:30", "-1x5"])
def test_a_wish_that_is_none(text: str) -> None:
    """An invalid request is an error in one sentence with an example."""
    with pytest.raises(UsageError, match="such as 1280x720@30:MJPG"):
        CameraWish.from_text(text)


def test_what_was_got_is_said(tmp_path: Path) -> None:
    """If a device gives 96 x 64 whatever is requested (here a video file in the same OpenCV class), that is reported."""
    writer = VideoWriter(tmp_path / "clip.mp4", 20)
    for i in range(5):
        writer.write(np.zeros((64, 96, 3), np.uint8), i / 20)
    writer.close()
    note = ask_camera(cv2.VideoCapture(str(tmp_path / "clip.mp4")), CameraWish(1280, 720, 30, "MJPG"))
    assert note.startswith("requested 1280x720@30:MJPG, got 96x64@20")


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 3), (2, 3, 4)])
def test_frames_of_any_channels_become_bgr(shape: tuple[int, ...]) -> None:
    """Grey 7 becomes (7, 7, 7); BGR stays; BGRA loses its alpha. An own appsink of a gst: pipeline gives such frames."""
    image = np.full(shape, 7, np.uint8)
    if shape[2:] == (4,):
        image[..., 3] = 255
    found = as_bgr(image)
    assert found.shape == (2, 3, 3) and (found == 7).all()


def test_raw_yuv_frames_are_refused() -> None:
    """Frames of two channels, such as UYVY, are an error in one sentence that names the format to ask for."""
    with pytest.raises(SourceError, match="format=BGR ! appsink"):
        as_bgr(np.zeros((2, 4, 2), np.uint8))
