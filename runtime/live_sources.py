"""Live cameras and streams: frames as they come, and a new connection when the old one breaks.

Whoever iterates gets every frame that arrives; `capture.py` keeps the newest and lets older ones go.
"""

from __future__ import annotations

import glob
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import SourceError, UsageError
from .frames import Frame, Source

Image = npt.NDArray[np.uint8]
Pixels = Callable[[], "Image | None"]  # decodes a picture; None if it is broken
OPEN_TIMEOUT_S, READ_TIMEOUT_S = 5.0, 5.0
BACK_OFF_S = (0.25, 5.0)  # wait before the first new try, doubled after each, up to the second
ENDLESS_FORMATS = {"mpjpeg", "mjpeg", "mpegts", "rtsp", "rtp", "sdp", "flv"}  # that only end when something is wrong
CSI_PIPELINE = (
    "nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),width={width},height={height},framerate={fps}/1 ! "
    "nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1"
)


@dataclass(frozen=True)
class CameraWish:
    """What is asked of a camera, and may not be given."""

    width: int
    height: int
    fps: int = 30
    format: str | None = None  # four characters, such as MJPG

    @staticmethod
    def from_text(text: str) -> CameraWish:
        """Read `1280x720`, `1280x720@30` or `1280x720@30:MJPG`; raises UsageError."""
        found = re.fullmatch(r"(\d{1,5})x(\d{1,5})(?:@(\d{1,4}))?(?::(\w{4}))?", text)
        if found is None or "0" in (found[1], found[2], found[3]):
            raise UsageError(f"--camera: expected WIDTHxHEIGHT[@FPS][:FORMAT], such as 1280x720@30:MJPG, got {text!r}")
        return CameraWish(int(found[1]), int(found[2]), int(found[3] or 30), found[4])


@dataclass(frozen=True)
class Connection:
    """An opened camera or stream."""

    read: Callable[[], tuple[Pixels, float] | None]  # the next picture and when it arrived; None at a proper end
    close: Callable[[], None]
    fps: float | None = None
    endless: bool = False  # a proper end, too, is a break
    note: str = ""  # what was got, where something was asked for


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
        return LiveSource("gst:…", lambda: _gstreamer(pipeline, "gst:…"), again=False)
    if text.startswith("csi://"):
        sensor = text.removeprefix("csi://") or "0"
        if not sensor.isdecimal():
            raise SourceError(f"{text}: expected csi://N with the number of the camera, such as csi://0")
        asked = wish or CameraWish(1280, 720)
        numbers = {"sensor": sensor, "width": asked.width, "height": asked.height, "fps": asked.fps}
        return LiveSource(text, lambda: _gstreamer(CSI_PIPELINE.format(**numbers), text))
    if "://" in text:
        return LiveSource(hide_credentials(text), lambda: _stream(text))
    return LiveSource(text, lambda: _camera(text, wish))


def hide_credentials(url: str) -> str:
    """The URL without user, password and query, fit for logs and JSON."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _camera(text: str, wish: CameraWish | None) -> Connection:
    """A webcam through OpenCV."""
    number = int(text.removeprefix("/dev/video")) if not text.isdecimal() else int(text)
    if sys.platform.startswith("linux") and not os.path.exists(f"/dev/video{number}"):
        there = ", ".join(sorted(glob.glob("/dev/video*"))) or "none"
        raise SourceError(
            f"camera {text}: expected /dev/video{number}, cameras here: {there}; plug it in or choose another"
        )
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        capture.release()
        raise SourceError(f"camera {text}: expected a camera that opens, it is busy or refuses; close other programs")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return _capture(capture, "" if wish is None else ask_camera(capture, wish))


def ask_camera(capture: Any, wish: CameraWish) -> str:
    """Ask an open cv2.VideoCapture for a format, size and rate, and say in words what it gives."""
    if wish.format is not None:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wish.format))
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, wish.width)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wish.height)
    capture.set(cv2.CAP_PROP_FPS, wish.fps)
    width, height = (round(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    code = round(capture.get(cv2.CAP_PROP_FOURCC))
    letters = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
    asked = f"{wish.width}x{wish.height}@{wish.fps}" + ("" if wish.format is None else f":{wish.format}")
    given = f"{width}x{height}@{capture.get(cv2.CAP_PROP_FPS):g}" + (f":{letters}" if letters.isprintable() else "")
    return f"asked {asked}, got {given}"


def _gstreamer(pipeline: str, name: str) -> Connection:
    """A GStreamer pipeline that ends in appsink, through OpenCV."""
    if "GStreamer:                   YES" not in cv2.getBuildInformation():
        raise SourceError(
            f"{name}: expected an OpenCV with GStreamer, this build has none; use the system's python3-opencv"
        )
    if "appsink" not in pipeline:
        pipeline += " ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1"
    capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        capture.release()
        raise SourceError(f"{name}: expected a pipeline that runs; try it with gst-launch-1.0 first")
    return _capture(capture, "")


def _capture(capture: Any, note: str) -> Connection:
    def read() -> tuple[Pixels, float] | None:
        if not capture.grab():
            raise SourceError("it sends no more frames")
        captured_s = time.monotonic()
        good, image = capture.retrieve()
        return lambda: np.asarray(image, np.uint8) if good else None, captured_s

    return Connection(read, capture.release, capture.get(cv2.CAP_PROP_FPS) or None, True, note)


def _stream(url: str) -> Connection:
    """A network stream through PyAV; RTSP over TCP, because lost packets show as grey faces."""
    import av

    options = {"rtsp_transport": "tcp", "fflags": "nobuffer"} if url.startswith("rtsp") else {}
    try:
        container = av.open(url, options=options, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S), metadata_errors="replace")
        stream = container.streams.video[0]
    except (av.FFmpegError, OSError, IndexError) as error:
        reason = getattr(error, "strerror", None) or "no video in it"
        raise SourceError(
            f"{hide_credentials(url)}: expected a stream, got: {reason}; check address and login"
        ) from None
    stream.thread_type = "SLICE"  # threads by frame would hold back as many frames
    if stream.codec_context.name == "mjpeg":
        pictures = _alone(container.demux(stream), av.CodecContext.create("mjpeg", "r"), av.FFmpegError)
    else:
        pictures = _in_turn(container.demux(stream), av.FFmpegError)
    rate = stream.average_rate
    endless = bool(set(str(container.format.name).split(",")) & ENDLESS_FORMATS)
    return Connection(lambda: next(pictures, None), container.close, float(rate) if rate else None, endless)


def _in_turn(packets: Iterator[Any], damage: type[Exception]) -> Iterator[tuple[Pixels, float]]:
    """Pictures that need those before them: all are decoded, each with the time its packet came."""
    for packet in packets:
        captured_s = time.monotonic()
        try:
            decoded = packet.decode()
        except EOFError:
            return
        except damage:
            yield lambda: None, captured_s
            continue
        for picture in decoded:
            image = np.asarray(picture.to_ndarray(format="bgr24"), np.uint8)
            yield lambda image=image: image, captured_s


def _alone(packets: Iterator[Any], decoder: Any, damage: type[Exception]) -> Iterator[tuple[Pixels, float]]:
    """Motion JPEG: a picture that nobody looks at is not decoded, so a slow machine does not fall behind its socket."""

    def decode(packet: Any) -> Image | None:
        try:
            pictures = decoder.decode(packet)
        except damage:
            return None
        return np.asarray(pictures[-1].to_ndarray(format="bgr24"), np.uint8) if pictures else None

    for packet in packets:
        if packet.size:
            yield lambda packet=packet: decode(packet), time.monotonic()
