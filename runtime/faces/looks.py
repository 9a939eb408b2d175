"""The looks that a face network takes at a picture: at which scales, in which tiles, and which faces of each are believed.

The first look has the scale at which the smallest face asked for is as large as the network needs; the next has a quarter of
that scale, and so on until the picture is small. A look at a large picture is done in tiles, so memory stays small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
import numpy.typing as npt

from ..sessions.faces_session import suppress
from .detect import Detections

Image = npt.NDArray[np.uint8]
See = Callable[[Sequence[Image]], list[Detections]]
LARGEST_SCALE = 2.0  # a picture is enlarged at most so far
AS_IT_IS_PX = 640  # a picture with no longer side is never shrunk: it costs little
LOOKS_APART = 4  # each look has a quarter of the scale of the one before
LAST_LOOK_PX = 400  # the look at which the longer side is at most this is the last
FROM_PX, UP_TO_PX = 48, 240  # sides of faces, in a look's own px: from the second look on, and in all but the last
TILE_PX, SHARED_PX = 2048, 256  # the longest side of a tile, and what two tiles have in common
EDGE_PX = 4.0  # a box so near to the edge between tiles is a face that another tile sees whole


@dataclass(frozen=True)
class Looks:
    """How a network looks at pictures."""

    reliable_px: float
    """The longer side of the smallest face that the network finds nearly always."""
    overlap: float
    """Of two boxes that overlap more (IoU) the better one stays."""
    smallest_px: float | None = None
    """The longer side of the smallest face to find; None: what the picture shows as it is."""
    enlarge: bool = False
    """Whether a picture may be enlarged for small faces, up to twice, at up to four times the cost."""

    def scale(self, height: int, width: int) -> float:
        """The scale of the first look at a picture of this size (px)."""
        if self.smallest_px is None:
            return 1.0
        wanted = self.reliable_px / self.smallest_px
        return min(max(wanted, min(1.0, AS_IT_IS_PX / max(height, width))), LARGEST_SCALE if self.enlarge else 1.0)

    def find(self, images: Sequence[Image], see: See, score: float) -> list[Detections]:
        """The faces from this score on in pictures [H, W, 3] of one size, best score first.

        see: what the network finds in pictures of one size, at lower scores too, with landmarks.
        """
        longer = max(images[0].shape[:2])
        scale = self.scale(*images[0].shape[:2])
        looks: list[list[Detections]] = [[] for _ in images]
        wanted = list(range(len(images)))  # the pictures in which something may be too large for the looks so far
        while wanted:
            last = scale * longer <= LAST_LOOK_PX
            from_px, to_px = FROM_PX / scale if looks[wanted[0]] else 0.0, math.inf if last else UP_TO_PX / scale
            seen = self._look([images[i] for i in wanted], see, scale)
            sides = [_sides_px(faces) for faces in seen]
            for i, faces, side in zip(wanted, seen, sides, strict=True):
                believed = (faces.scores >= score) & (side >= from_px) & (side < to_px)
                looks[i].append(faces.take(np.flatnonzero(believed)))
            large_px = LOOKS_APART * FROM_PX / scale  # what is larger, at any score, is worth another look
            wanted = (
                [] if last else [i for i, side in zip(wanted, sides, strict=True) if side.max(initial=0) >= large_px]
            )
            scale /= LOOKS_APART
        return [_joined(parts, self.overlap) for parts in looks]

    def _look(self, images: Sequence[Image], see: See, scale: float) -> list[Detections]:
        """What is seen at this scale, one tile after another, in px of the pictures."""
        height, width = images[0].shape[:2]
        found: list[list[Detections]] = [[] for _ in images]
        for (top, bottom), (left, right) in product(_tiles(height, scale), _tiles(width, scale)):
            seen = _at(scale, [image[top:bottom, left:right] for image in images], see)
            for faces, mine in zip(seen, found, strict=True):
                mine.append(_whole(faces, (left, top, right, bottom), (width, height), EDGE_PX / scale))
        return [_joined(parts, self.overlap) for parts in found]


def _at(scale: float, images: Sequence[Image], see: See) -> list[Detections]:
    height, width = images[0].shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (width, height):
        return see(images)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    seen = see([np.asarray(cv2.resize(image, size, interpolation=how), np.uint8) for image in images])
    ratio = np.array([width / size[0], height / size[1]], np.float32)
    return [Detections(f.boxes_xyxy * np.tile(ratio, 2), f.scores, _landmarks(f) * ratio) for f in seen]


def _tiles(length: int, scale: float) -> list[tuple[int, int]]:
    """Start and stop (px of the picture) of the tiles along one side, each at most TILE_PX at this scale."""
    if length * scale <= TILE_PX:
        return [(0, length)]
    most, shared = TILE_PX / scale, SHARED_PX / scale
    number = math.ceil((length - shared) / (most - shared))
    side = (length + (number - 1) * shared) / number
    starts = [round(i * (side - shared)) for i in range(number)]
    return [(start, min(length, start + math.ceil(side))) for start in starts]


def _whole(faces: Detections, tile: tuple[int, int, int, int], size_wh: tuple[int, int], edge_px: float) -> Detections:
    """A tile's (xyxy px) faces in px of the picture, without those that its inner edges cut."""
    if tile == (0, 0, *size_wh):
        return faces
    low, high = np.array(tile[:2], np.float32), np.array(tile[2:], np.float32)
    boxes = faces.boxes_xyxy + np.tile(low, 2)
    cut = ((boxes[:, :2] < low + edge_px) & (low > 0)) | ((boxes[:, 2:] > high - edge_px) & (high < size_wh))
    return Detections(boxes, faces.scores, _landmarks(faces) + low).take(np.flatnonzero(~cut.any(axis=1)))


def _sides_px(faces: Detections) -> npt.NDArray[np.float32]:
    """[F] the longer side of each box."""
    return (faces.boxes_xyxy[:, 2:] - faces.boxes_xyxy[:, :2]).max(axis=1, initial=0)


def _joined(parts: Sequence[Detections], overlap: float) -> Detections:
    """The faces of all parts without those that overlap a better one by more (IoU); best score first."""
    if len(parts) == 1:
        return parts[0]
    boxes, scores = np.concatenate([part.boxes_xyxy for part in parts]), np.concatenate([part.scores for part in parts])
    faces = Detections(boxes, scores, np.concatenate([_landmarks(part) for part in parts]))
    return faces.take(suppress(boxes, scores, 0.0, overlap))


def _landmarks(faces: Detections) -> npt.NDArray[np.float32]:
    assert faces.landmarks is not None
    return faces.landmarks
