"""A real RTSP camera over TCP and UDP: frames are recent, and lost ones are counted."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from numclip.runtime.live.frames import SourceEvent
from numclip.runtime.live.sources import open_source

PYTHON = "/usr/bin/python3"  # the system's Python, which has GStreamer
NEEDS = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst; Gst.init(None); assert Gst.ElementFactory.find('x264enc')"


@pytest.fixture
def rtsp(repo: Path, collins: np.ndarray, tmp_path: Path) -> Iterator[Callable[[str, float], str]]:
    """Starts a camera, 640 x 480 at 30 fps, over tcp or udp with a share of packets lost, and returns its address."""
    if not Path(PYTHON).exists() or subprocess.run([PYTHON, "-c", NEEDS], capture_output=True).returncode:
        pytest.skip(
            "needs GStreamer's RTSP server: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly"
        )
    picture = np.full((480, 640, 3), 200, np.uint8)
    picture[24:, :456] = cv2.resize(collins, (456, 456))
    picture.tofile(tmp_path / "picture.bgr")
    processes: list[subprocess.Popen[str]] = []

    def start(transport: str, loss: float) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = [PYTHON, str(repo / "tests" / "rtsp_server.py"), str(port), "640", "480", "30"]
        words += [str(tmp_path / "picture.bgr"), transport, str(loss)]
        processes.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
        assert processes[-1].stdout is not None and processes[-1].stdout.readline() == "serving\n"
        return f"rtsp://127.0.0.1:{port}/camera"

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _watch(address: str, camera, seconds: float) -> tuple[list[float], list[int], int]:
    """Return (ms since sending, drawn frame numbers, frames counted as lost or damaged)."""
    ages_ms, numbers = list[float](), list[int]()
    with open_source(address) as source:
        assert source.open().live and source.open().size_wh == (640, 480)
        started = time.monotonic()
        for arrival in source.arrivals():
            assert not isinstance(arrival, SourceEvent), arrival
            frame = arrival()
            if frame is not None:
                ages_ms.append(camera.code.age_ms(frame.image))
                numbers.append(camera.code.read_code(frame.image)[1])
            if time.monotonic() - started > seconds:
                break
        return ages_ms, numbers, source.undecodable


def _nothing_lost(address: str, camera, seconds: float) -> None:
    ages_ms, numbers, lost = _watch(address, camera, seconds)
    print(f"{len(ages_ms)} frames, p50/p95 since sending {np.percentile(ages_ms[15:], [50, 95]).round()} ms")
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and lost == 0
    if seconds >= 60:
        assert np.percentile(ages_ms[15:], 50) < 500


def _loss_counted(address: str, camera, seconds: float) -> None:
    _, numbers, lost = _watch(address, camera, seconds)
    spoiled = int(np.sum(np.diff(numbers) != 1))  # a missing or unreadable code
    print(f"{len(numbers)} frames, {spoiled} steps of their numbers are wrong, {lost} counted")
    assert spoiled > 0 and lost >= spoiled / 4


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_camera_over_rtsp(transport: str, rtsp, camera) -> None:
    """Over 6 s every frame arrives once, in order, and none counts as lost."""
    _nothing_lost(rtsp(transport, 0.0), camera, 6)


def test_lost_packets_are_counted(rtsp, camera) -> None:
    """If 3 % of the packets are lost, over 8 s, the counter shows it."""
    _loss_counted(rtsp("udp", 0.03), camera, 8)


@pytest.mark.slow
@pytest.mark.parametrize(("transport", "loss"), [("tcp", 0.0), ("udp", 0.0), ("udp", 0.03)])
def test_a_minute_of_rtsp(transport: str, loss: float, rtsp, camera) -> None:
    """The same holds over 60 s; without loss half of the frames arrive within 500 ms of being sent."""
    (_loss_counted if loss else _nothing_lost)(rtsp(transport, loss), camera, 60)
