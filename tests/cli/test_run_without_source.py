"""`numclip run` without a source reads the first camera and says which one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from numclip.cli.main import main
from numclip.runtime.live import webcams


def test_the_first_camera_is_read(
    hopper: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first camera is named and read (a picture stands in for the camera)."""
    (tmp_path / "video1").write_bytes(cv2.imencode(".png", hopper)[1].tobytes())
    monkeypatch.setattr(webcams, "cameras", lambda: [tmp_path / "video1", tmp_path / "video2"])
    assert main(["run", "--detector", "haar", "--device", "cpu"]) == 0
    said, errors = capfd.readouterr()
    assert f"numclip: no SOURCE given; reading camera {tmp_path}/video1\n" in errors and said.count("\n") == 1


def test_nodes_are_taken_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """video2 comes before video10, and a node that cannot capture (a webcam's metadata) is not a camera."""
    for name in ("video10", "video2", "video0"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(webcams, "formats", lambda node: [] if node.name == "video0" else ["MJPG"])
    assert [node.name for node in webcams.cameras(tmp_path)] == ["video2", "video10"]


def test_no_source_and_no_camera(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Without a source and a camera there is one sentence that says what to type, exit code 2."""
    monkeypatch.setattr(webcams, "cameras", list)
    assert main(["run"]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "such as clip.mp4 or rtsp://" in said and "no camera is connected" in said
