"""How a camera or stream is opened, and what an open one gives: through OpenCV, GStreamer or FFmpeg (PyAV)."""

from __future__ import annotations

import glob
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import SourceError, UsageError

Image = npt.NDArray[np.uint8]
Pixels = Callable[[], "Image | None"]  # decodes a picture; None if it is broken
OPEN_TIMEOUT_S, READ_TIMEOUT_S = 5.0, 5.0
ENDLESS_FORMATS = {"mpjpeg", "mjpeg", "mpegts", "rtsp", "rtp", "sdp", "flv"}  # that only end when something is wrong


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


def hide_credentials(url: str) -> str:
    """The URL without user, password and query, fit for logs and JSON."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def connect_camera(text: str, wish: CameraWish | None) -> Connection:
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


def connect_gstreamer(pipeline: str, name: str) -> Connection:
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


def connect_stream(url: str) -> Connection:
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
