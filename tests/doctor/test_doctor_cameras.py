"""Camera checks: measurement, listing, and the command for a wrong source. No test here needs a camera."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from numclip.doctor.cameras import another, camera, frames_per_s
from numclip.runtime.live import webcams
from numclip.runtime.live.webcams import FMTDESC, formats


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], None),
        ([(0, 1.0)], None),
        ([(0, 1.0), (1, 1.0)], None),
        ([(0, 1.0), (1, 1.1), (2, 1.2)], 10.0),  # three frames, two gaps
        ([(0, 1.0), (30, 2.0)], 30.0),  # 29 frames were dropped for newer ones, but the camera sent them
    ],
)
def test_frames_per_second(times: list[tuple[int, float]], expected: float | None) -> None:
    """The frame rate counts n - 1 gaps for n frames, and counts dropped frames."""
    assert frames_per_s(times) == pytest.approx(expected)


def test_formats_are_the_kernel_s(tmp_path: Path) -> None:
    """Formats are read as four-letter codes until the kernel's list ends (the kernel's replies are simulated)."""
    kinds = [b"MJPG", b"YUYV"]

    def ioctl(file: int, request: int, wanted: bytes) -> bytes:
        index, buffer_type, *_ = FMTDESC.unpack(wanted)
        assert (request, buffer_type, len(wanted)) == (0xC0405602, 1, 64)
        if index == len(kinds):
            raise OSError(22, "Invalid argument")
        return FMTDESC.pack(index, 1, 0, b"a description", kinds[index])

    (tmp_path / "video0").write_text("")

    assert formats(tmp_path / "video0", ioctl) == ["MJPG", "YUYV"]


def test_a_file_is_no_camera(tmp_path: Path) -> None:
    """The real ioctl on a plain file, and on a missing file, gives no formats."""
    (tmp_path / "video0").write_text("")

    assert formats(tmp_path / "video0") == formats(tmp_path / "video1") == []
    assert webcams.cameras(tmp_path) == []


def test_a_stream_is_opened_and_timed(stream_url: str) -> None:
    """A real stream over loopback gives its size and measured frame rate."""
    found = camera(stream_url)

    assert found.ok, found
    assert "64 x 48" in found.said
    rate = re.search(r"([\d.]+) fps measured", found.said)
    assert rate is not None
    assert float(rate[1]) > 1


def test_the_line_for_a_wrong_source(tmp_path: Path) -> None:
    """The command for a wrong source names a similar file, else an existing camera, else none."""
    (tmp_path / "door.mp4").write_text("")

    assert another(str(tmp_path / "dor.mp4"), tmp_path) == f"numclip doctor --camera {tmp_path}/door.mp4"
    assert another(str(tmp_path / "something.mp4"), tmp_path) == "numclip doctor"
    assert another("rtsp://127.0.0.1/x", tmp_path) == "numclip doctor"
    assert another("7", tmp_path) == "numclip doctor"


def test_the_line_prefers_a_camera_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another camera is connected, the command names it."""
    monkeypatch.setattr(webcams, "formats", functools.partial(lambda kinds, node: kinds, ["MJPG"]))
    (tmp_path / "video2").write_text("")

    assert another("63", tmp_path) == f"numclip doctor --camera {tmp_path}/video2"
