"""A decoded picture in the form in which a player shows it: square pixels, upright, not mirrored, SDR, no half pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
PQ, HLG = 16, 18  # transfer functions of HDR, ITU-T H.273 table 3
TO_SDR = "out_transfer=bt709:out_primaries=bt709:out_color_matrix=bt709:intent=perceptual"
ODD_ASPECT = 4.0  # pixels longer than so many times their width are a broken header, not a lens


class Display:
    """Takes the decoded pictures of one stream and gives what a player would show."""

    def __init__(self) -> None:
        self._graph: Any = None
        self._made_for: tuple[object, ...] | None = None
        self._deinterlaced = False
        self.notes: list[str] = []  # what could not be done

    def images(self, picture: Any, aspect: Fraction | None) -> Iterator[tuple[Image, Any]]:
        """[H, W, 3] uint8 BGR with the picture it was made of; a picture may wait for the next one to come.

        picture: av.VideoFrame, or None at the end. aspect: width by height of a pixel, None for square.
        """
        for made in self._filtered(picture):
            image = np.asarray(made.to_ndarray(format="bgr24"), np.uint8)
            yield upright(square(image, aspect), matrix_of(made)), made

    def _filtered(self, picture: Any) -> Iterator[Any]:
        if picture is None:
            if self._graph is not None:
                self._graph.push(None)
                yield from self._pulled()
            return
        hdr = picture.color_trc in (PQ, HLG)
        self._deinterlaced = self._deinterlaced or picture.interlaced_frame
        if not (hdr or self._deinterlaced):
            yield picture
            return
        form = (picture.width, picture.height, picture.format.name, picture.time_base, hdr, self._deinterlaced)
        if form != self._made_for:
            yield from self._filtered(None)
            self._made_for, self._graph = form, self._new_graph(picture, hdr)
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

    def _new_graph(self, picture: Any, hdr: bool) -> Any:
        """bwdif and scale of libavfilter, as far as they are needed and there; None where they are not."""
        from av.filter import Graph

        steps = [("bwdif", "mode=send_frame:deint=interlaced", "interlaced")] if self._deinterlaced else []
        steps += [("scale", TO_SDR, "HDR")] if hdr else []
        try:
            graph = Graph()
            last = graph.add_buffer(
                width=picture.width, height=picture.height, format=picture.format, time_base=picture.time_base
            )
            for name, how, _ in [*steps, ("format", "pix_fmts=yuv420p|yuv422p|yuv444p|bgr24", "")]:
                step = graph.add(name, how)
                last.link_to(step)
                last = step
            last.link_to(graph.add("buffersink"))
            graph.configure()
        except Exception as error:  # whatever libavfilter of this build has not
            kinds = " and ".join(kind for _, _, kind in steps)
            note = f"{kinds} video is read as it is: this FFmpeg cannot convert it ({type(error).__name__})"
            if note not in self.notes:
                self.notes.append(note)
            return None
        return graph


def aspect_of(stream: Any) -> Fraction | None:
    """Width by height of a stream's pixels, None for square: what the container says goes before the codec."""
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    return None if not aspect or aspect == 1 else Fraction(aspect)


def square(image: Image, aspect: Fraction | None) -> Image:
    """The picture with square pixels; its longer way is stretched, so that nothing is lost."""
    if aspect is None or not 1 / ODD_ASPECT <= aspect <= ODD_ASPECT:
        return image
    height, width = image.shape[:2]
    size = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def matrix_of(picture: Any) -> tuple[float, float, float, float] | None:
    """a b c d of a picture's display matrix (FFmpeg: x' = a x + c y, y' = b x + d y, y downwards); None: as it is."""
    for side in picture.side_data:
        if side.type.name == "DISPLAYMATRIX":
            m = np.frombuffer(bytes(side), np.int32)[:5] / 65536
            return float(m[0]), float(m[1]), float(m[3]), float(m[4])
    return None


def upright(image: Image, matrix: tuple[float, float, float, float] | None) -> Image:
    """Turned by quarters and mirrored as the matrix says."""
    if matrix is None:
        return image
    a, b, c, d = matrix
    if math.hypot(a, d) >= math.hypot(b, c):
        image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    else:
        image = image.swapaxes(0, 1)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]
    return np.ascontiguousarray(image)
