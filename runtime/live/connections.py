"""How a camera or stream is opened, and what an open one gives: through OpenCV, GStreamer or FFmpeg (PyAV)."""

from __future__ import annotations

import glob
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import SourceError, UsageError
from .clock import MissingFrames
from .containers import faults, open_container
from .display import Display, aspect_of

Image = npt.NDArray[np.uint8]
Pixels = Callable[[], "Image | None"]  # decodes a picture; None if it is broken
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


class Shot(NamedTuple):
    """A picture that has arrived, not decoded yet where each can be decoded alone."""

    pixels: Pixels
    captured_s: float  # time.monotonic()
    damaged: int = 0  # 1 if the decoder patched it up, and the frames before it that never came


@dataclass(frozen=True)
class Connection:
    """An opened camera or stream."""

    read: Callable[[], Shot | None]  # the next picture, None at a proper end; raises SourceError or OSError when broken
    close: Callable[[], None]
    fps: float | None = None
    size_wh: tuple[int, int] | None = None
    endless: bool = False  # a proper end, too, is a break
    note: str = ""  # what was got, where something was asked for


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
    def read() -> Shot | None:
        try:
            if not capture.grab():
                raise SourceError("it sends no more frames")
            captured_s = time.monotonic()
            good, image = capture.retrieve()
        except cv2.error as error:
            raise SourceError(f"OpenCV says: {error.err}") from None
        return Shot(lambda: np.asarray(image, np.uint8) if good else None, captured_s)

    size_wh = round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    return Connection(read, capture.release, capture.get(cv2.CAP_PROP_FPS) or None, size_wh, True, note)


def open_network(address: str, name: str) -> tuple[Any, Any]:
    """Container and video of an address; raises SourceError.

    RTSP goes over TCP where the camera can, because lost packets show as grey faces.
    """
    scheme, _, rest = address.partition("://")
    address = f"{scheme.lower()}://{rest}"
    if not address.startswith("rtsp"):
        opened = open_container(name, address)
        return _with_any_parts(address, name, *opened)
    how = {"rtsp_flags": "prefer_tcp", "fflags": "nobuffer", "max_delay": "100000"}
    return open_container(name, address, **how)


def _with_any_parts(address: str, name: str, container: Any, stream: Any) -> tuple[Any, Any]:
    """The same; a multipart stream whose parts FFmpeg refuses for their type (image/jpg) opened as JPEGs in a row."""
    if container.format.name != "mpjpeg" or stream.width:
        return container, stream
    container.close()
    return open_container(name, address, "mjpeg")


def is_file(container: Any, address: str) -> bool:
    """Whether an address of the web is a video file or a picture, not a camera: it has an end that is known."""
    kinds = set(str(container.format.name).split(","))
    if not re.match("(https?|ftp)://", address.lower()) or kinds & {"mpjpeg", "mjpeg"}:
        return False
    has_end = container.duration is not None and container.duration > 0
    return has_end or is_picture(container) or (container.size > 0 and "hls" not in kinds)


def is_picture(container: Any) -> bool:
    """Whether it is one picture, by FFmpeg's names."""
    return any(kind.endswith("_pipe") for kind in str(container.format.name).split(","))


def connect_stream(address: str, name: str) -> Connection:
    """A network stream through PyAV."""
    return stream_connection(*open_network(address, name))


def stream_connection(container: Any, stream: Any) -> Connection:
    """An open container as a live stream."""
    import av

    if stream.codec_context.name == "mjpeg":
        shots = _alone(container.demux(stream), stream)
    else:
        packets = bool(set(str(container.format.name).split(",")) & {"rtsp", "rtp", "sdp"})
        shots = _in_turn(container.demux(stream), stream, MissingFrames() if packets else None)

    def read() -> Shot | None:
        try:
            return next(shots, None)
        except av.FFmpegError as error:  # its own text may hold the address with its password
            raise SourceError(error.strerror or type(error).__name__) from None

    rate = stream.average_rate
    size_wh = (stream.width, stream.height) if stream.width else None
    endless = bool(set(str(container.format.name).split(",")) & ENDLESS_FORMATS)
    return Connection(read, container.close, float(rate) if rate else None, size_wh, endless)


def _in_turn(packets: Iterator[Any], stream: Any, missing: MissingFrames | None) -> Iterator[Shot]:
    """Pictures that need those before them: all are decoded, each with the time its packet came."""
    import av

    display = Display()
    for packet in packets:
        captured_s = time.monotonic()
        try:
            decoded = packet.decode()
            shown = [pair for picture in decoded for pair in display.images(picture, aspect_of(stream))]
        except av.EOFError:
            return
        except faults():
            yield Shot(lambda: None, captured_s)
            continue
        for image, made in shown:
            before = 0 if missing is None or made.time is None else missing.before(made.time)
            yield Shot(lambda image=image: image, captured_s, before + (made.is_corrupt or packet.is_corrupt))


def _alone(packets: Iterator[Any], stream: Any) -> Iterator[Shot]:
    """Motion JPEG: a picture that nobody looks at is not decoded, so a slow machine does not fall behind its socket."""
    import av

    decoder, display = av.CodecContext.create("mjpeg", "r"), Display()

    def decode(packet: Any) -> Image | None:
        try:
            pictures = decoder.decode(packet)
            return next((i for picture in pictures for i, _ in display.images(picture, aspect_of(stream))), None)
        except faults():
            return None

    for packet in packets:
        if packet.size:
            yield Shot(lambda packet=packet: decode(packet), time.monotonic())
