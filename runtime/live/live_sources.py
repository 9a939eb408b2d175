"""Live cameras and streams: frames as they come, and a new connection when the old one breaks.

Whoever iterates gets every frame that arrives; `capture.py` keeps the newest and lets older ones go.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from ...errors import SourceError
from .connections import (
    CameraWish,
    Connection,
    Pixels,
    connect_camera,
    connect_gstreamer,
    connect_stream,
    hide_credentials,
)
from .frames import Frame, Source

BACK_OFF_S = (0.25, 5.0)  # wait before the first new try, doubled after each, up to the second
CSI_PIPELINE = (
    "nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),width={width},height={height},framerate={fps}/1 ! "
    "nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1"
)


class LiveSource(Source):
    """Frames from a connection that is opened again, with growing pauses, whenever it breaks."""

    live = True

    def __init__(self, name: str, connect: Callable[[], Connection], again: bool = True) -> None:
        """connect: raises SourceError; called at once, and later when `again` says that breaks are mended."""
        self.name, self._connect, self._again = name, connect, again
        self._connection: Connection | None = connect()
        self.fps, self.note = self._connection.fps, self._connection.note
        self.reconnects = 0
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the iteration at its next frame or time-out."""
        self._stopped.set()

    def close(self) -> None:
        """Let go of the device; called by the thread that iterates, or before any does."""
        self.stop()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __iter__(self) -> Iterator[Frame]:
        return (frame for call in self.arrivals() if (frame := call()) is not None)

    def arrivals(self) -> Iterator[Callable[[], Frame | None]]:
        """Frames as they come, not decoded yet where each can be decoded alone."""
        opened_s, index = time.monotonic(), 0
        while not self._stopped.is_set():
            assert self._connection is not None
            got, reason = self._next(self._connection)
            if got is not None:
                yield self._arrival(*got, index, opened_s)
                index += 1
                continue
            if self._stopped.is_set() or not (reason or self._connection.endless):
                return
            if not self._again:
                raise SourceError(f"{self.name}: the stream ended ({reason or 'no more frames'}); check the camera")
            self.on_break(reason or "the stream ended")
            self._reconnect(self._connection)

    def _arrival(self, pixels: Pixels, captured_s: float, index: int, opened_s: float) -> Callable[[], Frame | None]:
        segment = self.reconnects

        def decode() -> Frame | None:
            began_s = time.monotonic()
            image = pixels()
            if image is None:
                self.undecodable += 1
                return None
            times_s = began_s, time.monotonic()
            return Frame(image, index, captured_s - opened_s, captured_s, self.name, None, times_s, segment)

        return decode

    def _next(self, connection: Connection) -> tuple[tuple[Pixels, float] | None, str]:
        """A picture, or why there is none ("" at a proper end)."""
        try:
            return connection.read(), ""
        except Exception as error:  # whatever the library raises is a break, and told as one
            # a library's own text may hold the address with its password, so only the system's words are told
            return None, getattr(error, "strerror", None) or (
                str(error) if isinstance(error, SourceError) else type(error).__name__
            )

    def _reconnect(self, broken: Connection) -> None:
        """Try until it is open again or nobody wants it any more."""
        self._connection = None
        broken.close()
        pause_s = BACK_OFF_S[0]
        while not self._stopped.wait(pause_s):
            try:
                self._connection = self._connect()
            except SourceError:
                pause_s = min(2 * pause_s, BACK_OFF_S[1])
            else:
                self.reconnects += 1
                return


class RealtimeSource(Source):
    """A video file played at its own speed, as a camera would give it."""

    live = True

    def __init__(self, video: Source) -> None:
        self._video, self.name, self.files, self.frames, self.fps = (
            video,
            video.name,
            video.files,
            video.frames,
            video.fps,
        )
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the iteration at its next frame."""
        self._stopped.set()

    def close(self) -> None:
        self._video.close()

    def __iter__(self) -> Iterator[Frame]:
        started_s = time.monotonic()
        for frame in self._video:
            if self._stopped.wait(max(0.0, started_s + frame.time_s - time.monotonic())):
                return
            now_s = time.monotonic()
            yield replace(frame, captured_s=now_s, decoding_s=None)


def open_live(text: str, wish: CameraWish | None = None) -> LiveSource:
    """Open a camera number, /dev/videoN, URL, csi://N or gst:PIPELINE; raises SourceError saying what to do."""
    if text.startswith("gst:"):
        pipeline = text.removeprefix("gst:")
        return LiveSource("gst:…", lambda: connect_gstreamer(pipeline, "gst:…"), again=False)
    if text.startswith("csi://"):
        sensor = text.removeprefix("csi://") or "0"
        if not sensor.isdecimal():
            raise SourceError(f"{text}: expected csi://N with the number of the camera, such as csi://0")
        asked = wish or CameraWish(1280, 720)
        numbers = {"sensor": sensor, "width": asked.width, "height": asked.height, "fps": asked.fps}
        return LiveSource(text, lambda: connect_gstreamer(CSI_PIPELINE.format(**numbers), text))
    if "://" in text:
        return LiveSource(hide_credentials(text), lambda: connect_stream(text))
    return LiveSource(text, lambda: connect_camera(text, wish))
