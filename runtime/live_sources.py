"""Live cameras and streams: a thread reads, the newest frame waits, older ones are dropped and counted."""

from __future__ import annotations

import glob
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from .frames import Frame, Source

Image = npt.NDArray[np.uint8]
OPEN_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 10.0
CSI_PIPELINE = (
    "nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1 ! "
    "nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1"
)


def open_live(text: str) -> LiveSource:
    """Open a camera number, /dev/videoN, URL, csi://N or gst:PIPELINE; raises SourceError saying what to do."""
    if text.startswith("gst:"):
        return LiveSource("gst:…", *_gstreamer(text.removeprefix("gst:"), "gst:…"))
    if text.startswith("csi://"):
        sensor = text.removeprefix("csi://") or "0"
        if not sensor.isdecimal():
            raise SourceError(f"{text}: expected csi://N with the number of the camera, such as csi://0")
        return LiveSource(text, *_gstreamer(CSI_PIPELINE.format(sensor=sensor), text))
    if "://" in text:
        return LiveSource(hide_credentials(text), *_stream(text))
    return LiveSource(text, *_camera(text))


def hide_credentials(url: str) -> str:
    """The URL without user, password and query, fit for logs and JSON."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = re.search(r":(\d+)$", parts.netloc)
    return f"{parts.scheme}://{host}{port[0] if port else ''}{parts.path}"


class LiveSource(Source):
    """Frames as they come: iteration always yields the newest, and `dropped` counts those that were never looked at."""

    live = True

    def __init__(
        self, name: str, read: Callable[[], Image | None], close: Callable[[], None], fps: float | None
    ) -> None:
        self.name, self.fps, self.dropped = name, fps, 0
        self._read, self._close = read, close
        self._newest: tuple[int, Image, float] | None = None
        self._ended: str | None = None
        self._changed = threading.Condition()
        self._stop = False
        self._thread = threading.Thread(target=self._fill, name=f"capture {name}", daemon=True)

    def close(self) -> None:
        self._stop = True
        if self._thread.is_alive():
            self._thread.join(timeout=2)
        if not self._thread.is_alive():
            self._close()

    def __iter__(self) -> Iterator[Frame]:
        opened_s = time.monotonic()
        self._thread.start()
        while True:
            with self._changed:
                ready = self._changed.wait_for(
                    lambda: self._newest is not None or self._ended is not None, timeout=READ_TIMEOUT_S
                )
                newest, self._newest = self._newest, None
                if newest is None and self._ended == "":
                    return
                if newest is None:
                    reason = self._ended if ready else f"no frame for {READ_TIMEOUT_S:g} s"
                    raise SourceError(
                        f"{self.name}: the stream ended ({reason}); check the camera and its cable or network"
                    )
            index, image, captured_s = newest
            yield Frame(image, index, captured_s - opened_s, captured_s, self.name)

    def _fill(self) -> None:
        index = 0
        while not self._stop:
            try:
                image = self._read()
            except Exception as error:  # whatever the library raises ends this stream, and is told by the iterator
                image, reason = None, str(error) or type(error).__name__
            else:
                reason = ""  # a stream that was complete
            with self._changed:
                if image is None:
                    self._ended = reason
                else:
                    self.dropped += self._newest is not None
                    self._newest = (index, image, time.monotonic())
                    index += 1
                self._changed.notify()
            if image is None:
                return


Opened = tuple[Callable[[], "Image | None"], Callable[[], None], "float | None"]


def _camera(text: str) -> Opened:
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
    return _capture(capture)


def _gstreamer(pipeline: str, name: str) -> Opened:
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
    return _capture(capture)


def _capture(capture: Any) -> Opened:
    def read() -> Image | None:
        good, image = capture.read()
        if not good:
            raise SourceError("it sends no more frames")
        return np.asarray(image, np.uint8)

    return read, capture.release, capture.get(cv2.CAP_PROP_FPS) or None


def _stream(url: str) -> Opened:
    """A network stream through PyAV; RTSP over TCP, because lost packets show as grey faces."""
    import av

    options = {"rtsp_transport": "tcp", "fflags": "nobuffer"} if url.startswith("rtsp") else {}
    try:
        container = av.open(url, options=options, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S))
        stream = container.streams.video[0]
    except (av.FFmpegError, OSError, IndexError) as error:
        reason = getattr(error, "strerror", None) or "no video in it"
        raise SourceError(
            f"{hide_credentials(url)}: expected a stream, got: {reason}; check address and login"
        ) from None
    pictures = container.decode(stream)

    def read() -> Image | None:
        picture = next(pictures, None)
        return None if picture is None else np.asarray(picture.to_ndarray(format="bgr24"), np.uint8)

    rate = stream.average_rate
    return read, container.close, float(rate) if rate else None
