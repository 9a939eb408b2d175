"""Convert a decoded picture to what a player shows: square pixels, upright, not mirrored, SDR, deinterlaced."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .containers import faults

Image = npt.NDArray[np.uint8]
PQ, HLG = 16, 18  # transfer functions of HDR, ITU-T H.273 table 3
WHITE_NITS = 203.0  # reference white of HDR, ITU-R BT.2408
HLG_NITS = 1000.0  # peak brightness of the display that HLG is converted for
KNEE = 0.7  # share of white above which highlights are compressed
# linear BT.2020 to BT.709, ITU-R BT.2087, in the order B G R
TO_709 = np.array([[1.1187, -0.1006, -0.0182], [-0.0083, 1.1329, -0.1246], [-0.0728, -0.5876, 1.6605]], np.float32)
BT709 = 1  # primaries, ITU-T H.273 table 2
ODD_ASPECT = 4.0  # pixels with a larger aspect ratio mean a broken header, not a lens


class Display:
    """Converts the decoded pictures of one stream to what a player would show."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        # One scaler per stream: a frame's own to_ndarray creates one with a thread pool for every frame.
        self._reformatter = VideoReformatter()
        self._graph: Any = None
        self._made_for: tuple[object, ...] | None = None
        self._deinterlaced = False
        self._matrix: tuple[float, float, float, float] | None = None
        self._asked = self._between = False  # whether a matrix was read; pictures since then that are not key frames
        self.notes: list[str] = []  # conversions that failed

    def images(self, picture: Any, aspect: Fraction | None) -> Iterator[tuple[Image, Any]]:
        """Pictures [H, W, 3] uint8 BGR, each with the decoded picture that it comes from; one may wait for the next to arrive.

        picture: av.VideoFrame, or None at the end. aspect: width divided by height of a pixel, None for square.
        """
        for made in self._filtered(picture):
            image = np.asarray(self._reformatter.reformat(made, format="bgr24").to_ndarray(), np.uint8)
            if made.color_trc in (PQ, HLG):
                image = to_sdr(image, made.color_trc, made.color_primaries != BT709)
            yield upright(square(image, aspect), self._matrix_at(made)), made

    def _matrix_at(self, picture: Any) -> tuple[float, float, float, float] | None:
        # A matrix changes at key frames only; where every picture is one, the first one's holds. Asking is not free: PyAV keeps
        # a picture whose side data were asked for until Python looks for circles.
        if not self._asked or (self._between and picture.key_frame):
            self._matrix, self._asked, self._between = matrix_of(picture), True, False
        self._between = self._between or not picture.key_frame
        return self._matrix

    def _filtered(self, picture: Any) -> Iterator[Any]:
        if picture is None:
            if self._graph is not None:
                self._graph.push(None)
                yield from self._pulled()
            return
        self._deinterlaced = self._deinterlaced or picture.interlaced_frame
        if not self._deinterlaced:
            yield picture
            return
        form = (picture.width, picture.height, picture.format.name, picture.time_base)
        if form != self._made_for:
            yield from self._filtered(None)
            self._made_for, self._graph = form, self._new_graph(picture)
        if self._graph is None:
            yield picture
            return
        self._graph.push(picture)
        yield from self._pulled()

    def _pulled(self) -> Iterator[Any]:
        import av

        while True:
            try:
                yield self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return

    def _new_graph(self, picture: Any) -> Any:
        """The deinterlacer bwdif of libavfilter; None if this build has none."""
        from av.filter import Graph

        try:
            graph = Graph()
            first = graph.add_buffer(
                width=picture.width, height=picture.height, format=picture.format, time_base=picture.time_base
            )
            step, last = graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")
            first.link_to(step)
            step.link_to(last)
            graph.configure()
        except faults() as error:
            note = f"interlaced video is read with its combs: this FFmpeg has no bwdif ({type(error).__name__})"
            if note not in self.notes:
                self.notes.append(note)
            return None
        return graph


def to_sdr(image: Image, transfer: int, wide: bool) -> Image:
    """Tone-map PQ or HLG (ITU-R BT.2100) to [H, W, 3] uint8 BGR as a display of 203 cd/m2 shows it, highlights compressed.

    wide: its primaries are those of BT.2020.
    """
    signal = np.arange(256) / 255
    if transfer == PQ:
        root = signal ** (1 / 78.84375)
        nits = 10_000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    else:
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        nits = HLG_NITS * scene**1.2
    light = cv2.LUT(image, (nits / WHITE_NITS).astype(np.float32))  # white is 1
    if wide:
        light = cv2.transform(light, TO_709)
    over = np.maximum(light - KNEE, 0)
    light = np.where(over > 0, 1 - (1 - KNEE) * np.exp(-over / (1 - KNEE)), np.maximum(light, 0))
    return np.rint(255 * light ** (1 / 2.4)).astype(np.uint8)


def aspect_of(stream: Any) -> Fraction | None:
    """Width divided by height of a stream's pixels, None for square; the container takes precedence over the codec."""
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    return None if not aspect or aspect == 1 else Fraction(aspect)


def square(image: Image, aspect: Fraction | None) -> Image:
    """The picture with square pixels; it is stretched, never shrunk, so that no detail is lost."""
    if aspect is None or not 1 / ODD_ASPECT <= aspect <= ODD_ASPECT:
        return image
    height, width = image.shape[:2]
    size = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def matrix_of(picture: Any) -> tuple[float, float, float, float] | None:
    """a b c d of a picture's display matrix (FFmpeg: x' = a x + c y, y' = b x + d y, y downwards); None: no change."""
    for side in picture.side_data:
        if side.type.name == "DISPLAYMATRIX":
            m = np.frombuffer(bytes(side), np.int32)[:5] / 65536
            return float(m[0]), float(m[1]), float(m[3]), float(m[4])
    return None


def upright(image: Image, matrix: tuple[float, float, float, float] | None) -> Image:
    """Rotate by quarter turns and mirror as the matrix says."""
    if matrix is None:
        return image
    a, b, c, d = matrix
    if math.hypot(a, d) >= math.hypot(b, c):
        image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    else:
        image = image.swapaxes(0, 1)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]
    return np.ascontiguousarray(image)
