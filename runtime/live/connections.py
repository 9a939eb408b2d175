"""Opening cameras and streams, through OpenCV, GStreamer or FFmpeg (PyAV)."""

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
ENDLESS_FORMATS = {"mpjpeg", "mjpeg", "mpegts", "rtsp", "rtp", "sdp", "flv"}  # formats that end only on an error


@dataclass(frozen=True)
class CameraWish:
    """The format, size and rate requested from a camera, which it may not grant."""

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
    """A picture that has arrived; not decoded yet if it can be decoded by itself."""

    pixels: Pixels
    captured_s: float  # time.monotonic()
    damaged: int = 0  # 1 if the decoder repaired it, plus the number of missing frames before it


@dataclass(frozen=True)
class Connection:
    """An opened camera or stream."""

    read: Callable[[], Shot | None]  # the next picture, None at a regular end; raises SourceError or OSError
    close: Callable[[], None]
    fps: float | None = None
    size_wh: tuple[int, int] | None = None
    endless: bool = False  # even a regular end counts as a lost connection
    note: str = ""  # what a camera granted, if something was requested


def connect_camera(text: str, wish: CameraWish | None) -> Connection:
    """A webcam through OpenCV. text: its number, its node, or a link to the node, such as udev's permanent names; a camera may have
    another node at each connection, so the link is followed here.
    """
    node = f"/dev/video{text}" if text.isdecimal() else os.path.realpath(text)
    number = re.search(r"/video(\d+)$", node)
    if number is None or (sys.platform.startswith("linux") and not os.path.exists(node)):
        there = ", ".join(sorted(glob.glob("/dev/video*"))) or "none"
        wrong = "is not a camera" if os.path.exists(node) else "does not exist"
        raise SourceError(
            f"camera {text}: {node} {wrong} (cameras here: {there}); plug the camera in, or choose another"
        )
    capture = cv2.VideoCapture(int(number[1]))
    if not capture.isOpened():
        capture.release()
        raise SourceError(
            f"camera {text}: cannot open it, because it is in use or not permitted; close other programs that use it"
        )
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return _capture(capture, "" if wish is None else ask_camera(capture, wish))


def ask_camera(capture: Any, wish: CameraWish) -> str:
    """Request a format, size and rate from an open cv2.VideoCapture, and return what it grants, in words."""
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
    return f"requested {asked}, got {given}"


def connect_gstreamer(pipeline: str, name: str) -> Connection:
    """A GStreamer pipeline that ends in appsink, through OpenCV."""
    if "GStreamer:                   YES" not in cv2.getBuildInformation():
        raise SourceError(
            f"{name}: needs an OpenCV with GStreamer, which this build of OpenCV lacks; use the system's package python3-opencv"
        )
    if "appsink" not in pipeline:
        pipeline += " ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1"
    capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        capture.release()
        raise SourceError(f"{name}: GStreamer cannot run this pipeline; test it with gst-launch-1.0 first")
    return _capture(capture, "")


def _capture(capture: Any, note: str) -> Connection:
    def read() -> Shot | None:
        try:
            if not capture.grab():
                raise SourceError("it stopped sending frames")
            captured_s = time.monotonic()
            good, image = capture.retrieve()
        except cv2.error as error:
            raise SourceError(f"OpenCV reports: {error.err}") from None
        picture = as_bgr(image) if good else None
        return Shot(lambda: picture, captured_s)

    size_wh = round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    return Connection(read, capture.release, capture.get(cv2.CAP_PROP_FPS) or None, size_wh, True, note)


def as_bgr(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A capture's frame [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] as BGR [H, W, 3]: a pipeline's own appsink may give GRAY8 or BGRA."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 3:
        return np.asarray(image, np.uint8)
    if channels not in (1, 4):
        raise SourceError(
            f"expected frames of 1, 3 or 4 channels, got {channels}; let the pipeline end in video/x-raw,format=BGR ! appsink"
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR), np.uint8)


def open_network(address: str, name: str) -> tuple[Any, Any]:
    """The container and the video of an address; raises SourceError.

    RTSP uses TCP if the camera supports it, because lost packets would show as grey areas in faces.
    """
    scheme, _, rest = address.partition("://")
    address = f"{scheme.lower()}://{rest}"
    if not address.startswith("rtsp"):
        opened = open_container(name, address)
        return _with_any_parts(address, name, *opened)
    how = {"rtsp_flags": "prefer_tcp", "fflags": "nobuffer", "max_delay": "100000"}
    return open_container(name, address, **how)


def _with_any_parts(address: str, name: str, container: Any, stream: Any) -> tuple[Any, Any]:
    """As `open_network`; a multipart stream whose content type FFmpeg rejects (image/jpg) is opened as a row of JPEGs."""
    if container.format.name != "mpjpeg" or stream.width:
        return container, stream
    container.close()
    return open_container(name, address, "mjpeg")


def is_file(container: Any, address: str) -> bool:
    """Whether a web address is a video file or a picture, and not a camera: its length is known."""
    kinds = set(str(container.format.name).split(","))
    if not re.match("(https?|ftp)://", address.lower()) or kinds & {"mpjpeg", "mjpeg"}:
        return False
    has_end = container.duration is not None and container.duration > 0
    return has_end or is_picture(container) or (container.size > 0 and "hls" not in kinds)


def is_picture(container: Any) -> bool:
    """Whether it is a single picture, by the names of FFmpeg's formats."""
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
        except av.FFmpegError as error:  # its own text may contain the address with its password
            raise SourceError(error.strerror or type(error).__name__) from None

    rate = stream.average_rate
    size_wh = (stream.width, stream.height) if stream.width else None
    endless = bool(set(str(container.format.name).split(",")) & ENDLESS_FORMATS)
    return Connection(read, container.close, float(rate) if rate else None, size_wh, endless)


def _in_turn(packets: Iterator[Any], stream: Any, missing: MissingFrames | None) -> Iterator[Shot]:
    """Pictures that depend on earlier ones: all are decoded, each with the time its packet arrived."""
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
    """Motion JPEG: a picture is decoded only when it is used, so a slow machine does not fall behind its socket."""
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
