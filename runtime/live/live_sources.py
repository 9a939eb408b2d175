"""Live cameras and streams: frames as they arrive, and a new connection when one is lost.

Iterating yields every frame that arrives; `capture.py` keeps only the newest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ...errors import SourceError
from .addresses import is_address, shown
from .connections import (
    CameraWish,
    Connection,
    Shot,
    connect_camera,
    connect_gstreamer,
    connect_stream,
    is_file,
    is_picture,
    open_network,
    stream_connection,
)
from .frames import Arrival, Frame, Source, SourceEvent, SourceInfo
from .pictures import PictureSource, pictures_in
from .video_file import VideoSource

BACK_OFF_S = (0.25, 5.0)  # pause before a new try: doubled after each, up to the second value, until a connection lasts
CSI_PIPELINE = (
    "nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),width={width},height={height},framerate={fps}/1 ! "
    "nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1"
)


class LiveSource(Source):
    """Frames from a connection that is opened again, with growing pauses, whenever it is lost."""

    def __init__(
        self, name: str, connect: Callable[[], Connection], again: bool = True, opened: Connection | None = None
    ) -> None:
        """connect: opens a connection, or raises SourceError; called by `open`, and again after each loss if `again` is set.
        opened: the first connection, if there is one already.
        """
        self.name, self._connect, self._again = name, connect, again
        self._connection = opened
        self._info: SourceInfo | None = None
        self._stopped = threading.Event()

    def open(self) -> SourceInfo:
        if self._info is None:
            if self._connection is None:
                self._connection = self._connect()
            is_open = self._connection
            notes = (is_open.note,) if is_open.note else ()
            self._info = SourceInfo(self.name, is_open.size_wh, is_open.fps, live=True, notes=notes)
        return self._info

    def stop(self) -> None:
        """End the iteration at its next frame or time-out."""
        self._stopped.set()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def arrivals(self) -> Iterator[Arrival | SourceEvent]:
        """Frames as they arrive, not decoded yet if each can be decoded by itself; `stalled` when the connection is lost."""
        self.open()
        opened_s, index, pause_s = time.monotonic(), 0, BACK_OFF_S[0]
        first_s: float | None = None  # when the connection delivered its first frame
        while not self._stopped.is_set():
            assert self._connection is not None
            shot, reason = self._next(self._connection)
            now_s = time.monotonic()
            if shot is not None:
                first_s = now_s if first_s is None else first_s
                self.undecodable += shot.damaged
                yield self._arrival(shot, index, opened_s)
                index += 1
                continue
            if self._stopped.is_set() or not (reason or self._connection.endless):
                return
            reason = reason or "the stream ended"
            if not self._again:
                raise SourceError(f"{self.name}: the stream ended ({reason}); check the camera")
            yield SourceEvent("stalled", self.name, now_s - opened_s, reason)
            if first_s is not None and now_s - first_s > BACK_OFF_S[1]:
                pause_s = BACK_OFF_S[0]  # the connection had worked
            pause_s, first_s = self._reconnect(pause_s), None

    def _arrival(self, shot: Shot, index: int, opened_s: float) -> Arrival:
        segment = self.reconnects

        def decode() -> Frame | None:
            began_s = time.monotonic()
            image = shot.pixels()
            if image is None:
                self.undecodable += 1
                return None
            times_s = began_s, time.monotonic()
            time_s = max(0.0, shot.captured_s - opened_s)
            return Frame(image, index, time_s, shot.captured_s, self.name, None, times_s, segment)

        return decode

    def _next(self, connection: Connection) -> tuple[Shot | None, str]:
        """A picture, or the reason why there is none ("" at a regular end). Errors that are not a lost connection are raised."""
        try:
            return connection.read(), ""
        except SourceError as error:
            return None, str(error)
        except (OSError, EOFError) as error:  # its text may contain the address with its password
            return None, getattr(error, "strerror", None) or type(error).__name__

    def _reconnect(self, pause_s: float) -> float:
        """Try until the connection is open again or the source is stopped; returns the pause before the next try after it."""
        self.close()
        while not self._stopped.wait(pause_s):
            pause_s = min(2 * pause_s, BACK_OFF_S[1])
            try:
                self._connection = self._connect()
            except SourceError:
                continue
            self.reconnects += 1
            break
        return pause_s


class NetworkSource(Source):
    """A network address: a video file or picture on a web server, or a stream; opening it shows which."""

    def __init__(self, address: str) -> None:
        self.name, self._address = shown(address), address
        self._found: Source | None = None
        self._stopped = False

    def open(self) -> SourceInfo:
        if self._found is None:
            container, stream = open_network(self._address, self.name)
            if not is_file(container, self._address):
                opened = stream_connection(container, stream)
                self._found = LiveSource(self.name, lambda: connect_stream(self._address, self.name), opened=opened)
            elif is_picture(container):
                self._found = self._picture(container, stream)
            else:
                self._found = VideoSource(self.name, None, opened=(container, stream))
            if self._stopped:
                self._found.stop()
        return self._found.open()

    def _picture(self, container: Any, stream: Any) -> Source:
        """The picture of a snapshot address, read as from a file."""
        import av

        try:
            with container:
                data = b"".join(bytes(packet) for packet in container.demux(stream) if packet.size)
        except av.FFmpegError as error:
            raise SourceError(f"{self.name}: cannot read the picture ({error.strerror}); check the file") from None
        info = SourceInfo(self.name, frames=1, stills=True)
        return PictureSource(info, [(self.name, lambda: pictures_in(data, self.name))], named=False)

    def arrivals(self) -> Iterator[Arrival | SourceEvent]:
        self.open()
        assert self._found is not None
        yield from _counted(self, self._found)

    def stop(self) -> None:
        self._stopped = True
        if self._found is not None:
            self._found.stop()

    def close(self) -> None:
        if self._found is not None:
            self._found.close()
            _copy_counts(self, self._found)


class RealtimeSource(Source):
    """A video file played at its own speed, like a camera."""

    def __init__(self, video: Source) -> None:
        self._video, self.name = video, video.name
        self._stopped = threading.Event()

    def open(self) -> SourceInfo:
        info = self._video.open()
        if info.live:
            return info
        if info.fps is None:
            raise SourceError(f"{self.name}: expected a video for --realtime, got pictures; leave --realtime out")
        return replace(info, live=True)

    def stop(self) -> None:
        """End the iteration at its next frame."""
        self._stopped.set()
        self._video.stop()

    def close(self) -> None:
        self._video.close()
        _copy_counts(self, self._video)

    def arrivals(self) -> Iterator[Arrival | SourceEvent]:
        if self._video.open().live:
            yield from _counted(self, self._video)
            return
        started_s = time.monotonic()
        for frame in self._video:
            _copy_counts(self, self._video)
            if self._stopped.wait(max(0.0, started_s + frame.time_s - time.monotonic())):
                return
            now = replace(frame, captured_s=time.monotonic(), decoding_s=None)
            yield lambda now=now: now


def _counted(outer: Source, inner: Source) -> Iterator[Arrival | SourceEvent]:
    """What arrives from a wrapped source, with its counts up to then."""
    for arrival in inner.arrivals():
        _copy_counts(outer, inner)
        yield arrival


def _copy_counts(outer: Source, inner: Source) -> None:
    outer.reconnects, outer.undecodable = inner.reconnects, inner.undecodable


def live_source(text: str, wish: CameraWish | None = None) -> Source:
    """A camera number, /dev/videoN or a link to it, address, csi://N or gst:PIPELINE; raises SourceError saying what to do."""
    if text.startswith("gst:"):
        pipeline = text.removeprefix("gst:")
        return LiveSource("gst:…", lambda: connect_gstreamer(pipeline, "gst:…"), again=False)
    if text.startswith("csi://"):
        sensor = text.removeprefix("csi://") or "0"
        if not sensor.isdecimal():
            raise SourceError(f"{text}: expected csi://N, where N is the camera's number, such as csi://0")
        asked = wish or CameraWish(1280, 720)
        numbers = {"sensor": sensor, "width": asked.width, "height": asked.height, "fps": asked.fps}
        return LiveSource(text, lambda: connect_gstreamer(CSI_PIPELINE.format(**numbers), text))
    if is_address(text):
        return NetworkSource(text)
    return LiveSource(text, lambda: connect_camera(text, wish))
