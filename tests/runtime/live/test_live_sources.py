"""Cameras and streams: requests, actual formats, hidden secrets, and reconnection."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from numclip.errors import SourceError
from numclip.runtime.live import live_sources
from numclip.runtime.live.capture import Captures
from numclip.runtime.live.connections import Connection, Pixels, Shot
from numclip.runtime.live.frames import Frame, SourceEvent
from numclip.runtime.live.live_sources import LiveSource
from numclip.runtime.live.sources import open_source, open_sources
from numclip.runtime.sinks.video_writer import VideoWriter


def _picture(number: int) -> np.ndarray:
    return np.full((4, 4, 3), number % 256, np.uint8)


def _connection(many: int, then: str | None, first: int = 0) -> Connection:
    """Gives a number of pictures, then an error or a normal end."""
    numbers = iter(range(first, first + many))

    def read() -> Shot | None:
        number = next(numbers, None)
        if number is not None:
            return Shot(lambda: _picture(number), time.monotonic())
        if then is None:
            return None
        raise OSError(5, then, "rtsp://me:secret@cam")

    return Connection(read, lambda: None, 30.0)


def test_a_break_is_mended() -> None:
    """Two connections that break after 5 pictures, one that is refused and one that ends normally give all 15 frames, numbered
    consecutively, each with its connection; both breaks are reported with their reason."""
    plan = iter(
        [_connection(5, "unplugged"), SourceError("not yet"), _connection(5, "cable", 5), _connection(5, None, 10)]
    )

    def connect() -> Connection:
        step = next(plan)
        if isinstance(step, SourceError):
            raise step
        return step

    source, frames, events = LiveSource("cam", connect), list[Frame](), list[SourceEvent]()
    for arrival in source.arrivals():
        if isinstance(arrival, SourceEvent):
            events.append(arrival)
        else:
            frame = arrival()
            assert frame is not None
            frames.append(frame)
    assert [f.index for f in frames] == list(range(15)) == [int(f.image[0, 0, 0]) for f in frames]
    assert [f.segment for f in frames] == [0] * 5 + [1] * 5 + [2] * 5
    assert [(e.kind, e.reason) for e in events] == [("stalled", "unplugged"), ("stalled", "cable")]
    assert source.reconnects == 2


def test_a_source_that_is_not_to_be_mended_ends_in_a_sentence() -> None:
    """A GStreamer pipeline is not restarted: it gives its frames, then one error."""
    frames = []
    with pytest.raises(SourceError, match=r"the stream ended \(unplugged\)"):
        frames.extend(LiveSource("gst:…", lambda: _connection(3, "unplugged"), again=False))
    assert len(frames) == 3


def test_waiting_for_a_connection_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """`stop` from another thread ends a 300 s wait for the next connection attempt."""
    monkeypatch.setattr(live_sources, "BACK_OFF_S", (300.0, 300.0))
    source = LiveSource("cam", lambda: _connection(1, "gone"))
    threading.Timer(0.8, source.stop).start()
    started = time.monotonic()
    assert len(list(source)) == 1 and time.monotonic() - started < 200


def test_a_frame_that_cannot_be_decoded_is_counted() -> None:
    """If the second of three frames cannot be decoded, two arrive, one is counted, and the frame numbers keep the gap."""
    pictures: Iterator[Pixels] = iter([lambda: _picture(0), lambda: None, lambda: _picture(2)])

    def read() -> Shot | None:
        pixels = next(pictures, None)
        return None if pixels is None else Shot(pixels, time.monotonic())

    source = LiveSource("cam", lambda: Connection(read, lambda: None))
    assert [f.index for f in source] == [0, 2] and source.undecodable == 1


def test_an_unreachable_stream() -> None:
    """An unreachable stream is an error in one sentence without its password."""
    with pytest.raises(SourceError) as caught:
        open_source("rtsp://user:secret@127.0.0.1:9/live?token=abc").open()
    assert "rtsp://127.0.0.1:9/live" in str(caught.value)
    assert "secret" not in str(caught.value) and "abc" not in str(caught.value)


class _Streams(http.server.BaseHTTPRequestHandler):
    """An MJPEG stream of 40 pictures, as wide as the address asks for."""

    def do_GET(self) -> None:
        width = int(self.path.rpartition("=")[2])
        jpeg = cv2.imencode(".jpg", np.full((48, width, 3), 90, np.uint8))[1].tobytes()
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for _ in range(40):
            time.sleep(0.02)
            self.wfile.write(
                b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg + b"\r\n"
            )

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_streams_that_differ_in_hidden_parts() -> None:
    """Of three addresses that differ only in their query, each stream's frames and events carry a name of their own, and each
    stream's reconnects are counted."""
    names: list[str] = []
    widths: dict[str, set[int]] = {}
    resumed: set[str] = set()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Streams) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/cam.mjpg"
        sources = open_sources([f"{address}?width={width}" for width in (64, 96, 128)], realtime=True)
        captures = Captures(sources)
        names = [info.name for info in captures.open()]
        for events, frames in captures:
            for frame in frames:
                widths.setdefault(frame.source, set()).add(frame.image.shape[1])
            resumed |= {event.source for event in events if event.kind == "resumed"}
            if len(resumed) == 3 or not resumed <= set(names):
                captures.stop()
        captures.join(10)
        server.shutdown()
    assert names == [address, f"{address} #2", f"{address} #3"]
    assert widths == dict(zip(names, [{64}, {96}, {128}], strict=True)) and resumed == set(names)
    assert all(source.reconnects >= 1 for source in sources)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_file_over_http_ends(tmp_path: Path) -> None:
    """A video over HTTP counts as a file: 60 frames in order at their media times, no reconnection, not live."""
    writer = VideoWriter(tmp_path / "clip.mp4", 20)
    for i in range(60):
        noise = np.random.default_rng(i).integers(-15, 16, (64, 96, 3))
        writer.write((4 * i + noise).clip(0, 255).astype(np.uint8), i / 20)
    writer.close()
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with open_source(f"http://127.0.0.1:{server.server_address[1]}/clip.mp4") as source:
            seen = [(frame.index, round(frame.time_s, 3)) for frame in source]
        server.shutdown()
    assert not source.open().live and source.reconnects == 0
    assert seen == [(i, round(i / 20, 3)) for i in range(60)]


def test_a_camera_over_http(camera) -> None:
    """Motion JPEG from another process has the right sizes and order, and times that agree with the clock in the pictures."""
    camera.start(320, 240, 30)
    with open_source(camera.url) as source:
        frames = [frame for frame, _ in zip(source, range(20), strict=False)]
    numbers = [camera.code.read_code(frame.image)[1] for frame in frames]
    assert numbers == list(range(numbers[0], numbers[0] + 20)) and frames[0].image.shape == (240, 320, 3)


@pytest.mark.skipif(
    "GStreamer:                   YES" in cv2.getBuildInformation(), reason="needs an OpenCV without GStreamer"
)
@pytest.mark.parametrize("text", ["csi://0", "gst:videotestsrc"])
def test_without_gstreamer(text: str) -> None:
    """If OpenCV has no GStreamer, csi:// and gst: give an error in one sentence."""
    with pytest.raises(SourceError, match="needs an OpenCV with GStreamer, which this build of OpenCV lacks"):
        open_source(text).open()


def test_a_csi_camera_without_a_number() -> None:
    """csi://front is an error with an example."""
    with pytest.raises(SourceError, match="such as csi://0"):
        open_source("csi://front")
