"""Annotated video that survives an interruption: fragmented mp4, readable up to the last complete fragment.

OpenCV's writer reports no error, and leaves an mp4 without an index when it is stopped. A fragmented mp4 contains its index in
pieces, so an interrupted file still opens and plays what was written.
"""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import OutputError
from ..live.addresses import av_name

TIME_BASE = Fraction(1, 60_000)  # s; MPEG-4 part 2 allows at most 65,535 in a second
KEYFRAMES_S = (
    1.0  # a fragment is written at each key frame: at most this much, and one frame, is lost if the process is killed
)
FALLBACK_FPS = 30
MP4_FLAGS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}


class VideoWriter:
    """An H.264 mp4 (MPEG-4 part 2 if libx264 is missing), opened with the first frame's size."""

    def __init__(self, path: Path, fps: float | None) -> None:
        import av
        from av.video.frame import PictureType

        self._av, self._picture_type, self.path = av, PictureType, path
        self._fps = Fraction(fps or FALLBACK_FPS).limit_denominator(1001)
        self._stream: Any = None
        self._last_pts, self._key_pts = -1, 0
        try:
            path.open("wb").close()  # PyAV itself opens the file only with the first packet
            self._container: Any = av.open(av_name(path), "w", format="mp4", options=MP4_FLAGS)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"cannot write {path} ({error.strerror}); give another --save FILE") from None

    def write(self, image: npt.NDArray[np.uint8], time_s: float) -> None:
        """Append one [H, W, 3] uint8 BGR picture, shown from `time_s` on; a picture of another size is fitted into the first's."""
        if self._stream is None:
            self._stream = self._new_stream(image)
        frame = self._av.VideoFrame.from_ndarray(_fitted(image, self._stream.width, self._stream.height), "bgr24")
        frame.pts = max(round(time_s / TIME_BASE), self._last_pts + 1)
        frame.time_base = TIME_BASE
        if (frame.pts - self._key_pts) * TIME_BASE >= KEYFRAMES_S:  # frames may come at less than the nominal rate
            frame.pict_type = self._picture_type.I
        self._last_pts = frame.pts
        self._mux(frame)

    def close(self) -> None:
        """Write what the encoder has buffered, and the end of the file."""
        if self._container is None:
            return
        try:
            if self._stream is not None:
                self._mux(None)
            self._shut()
        finally:
            self._container = None

    def _mux(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                if packet.is_keyframe and packet.pts is not None:
                    self._key_pts = packet.pts
                self._container.mux(packet)
        except (self._av.FFmpegError, OSError) as error:
            container, self._container = self._container, None
            with contextlib.suppress(self._av.FFmpegError, OSError):  # the disk is still full: report the first error
                container.close()
            if self.path.is_file():
                cut_to_whole_fragments(self.path)
            raise OutputError(
                f"cannot write {self.path} ({error.strerror}); free disk space. The file plays up to here"
            ) from None

    def _shut(self) -> None:
        try:
            self._container.close()
        except (self._av.FFmpegError, OSError) as error:
            raise OutputError(
                f"cannot finish {self.path} ({error.strerror}); free disk space. The file plays up to here"
            ) from None

    def _new_stream(self, image: npt.NDArray[np.uint8]) -> Any:
        height, width = image.shape[:2]
        has_x264 = "libx264" in self._av.codecs_available
        stream = self._container.add_stream("libx264" if has_x264 else "mpeg4", rate=self._fps)
        stream.width, stream.height = max(16, width - width % 2), max(16, height - height % 2)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        stream.codec_context.gop_size = max(1, round(self._fps * Fraction(KEYFRAMES_S)))
        if has_x264:
            stream.options = {"preset": "veryfast", "crf": "21", "tune": "zerolatency"}
        return stream


def cut_to_whole_fragments(path: Path) -> None:
    """Cut an interrupted mp4 after its last complete fragment (a `moof` box and the `mdat` that belongs to it)."""
    with path.open("r+b") as file:
        size, at, whole = path.stat().st_size, 0, 0
        while at + 8 <= size:
            file.seek(at)
            length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
            at += length
            if length < 8 or at > size:
                break
            if kind != b"moof":
                whole = at
        file.truncate(whole)


def _fitted(image: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """The picture in a frame of this size: cropped by one px if sizes are odd, else scaled, with black borders."""
    h, w = image.shape[:2]
    if (w - w % 2, h - h % 2) == (width, height):
        return np.ascontiguousarray(image[:height, :width])
    scale = min(width / w, height / h)
    w, h = max(1, min(width, round(w * scale))), max(1, min(height, round(h * scale)))
    out = np.zeros((height, width, 3), np.uint8)
    top, left = (height - h) // 2, (width - w) // 2
    out[top : top + h, left : left + w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
    return out
