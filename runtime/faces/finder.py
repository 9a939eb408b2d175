"""faces-nano, the face finder that ships: this project's own network, with everything after the pixels inside its graph.

A picture is looked at several times: first at the scale at which the smallest face asked for is as large as the network needs,
then at a quarter of that scale, and so on until it is small. Each look is believed for faces of the sizes that the network
finds well. A look at a large picture is done in tiles, so memory stays small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import DetectorError
from ..contract.model_file import FINDER, graph_sha256, read_faces_spec, resolve
from ..sessions.engine_file import read_faces_sidecar
from ..sessions.faces_session import FacesSession, suppress
from ..sessions.opening import open_faces_session
from .detect import KEEP_SCORE, Detections

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
LARGEST_SCALE = 2.0  # a picture is enlarged at most so far
AS_IT_IS_PX = 640  # a picture with no longer side is never shrunk: it costs little
LOOKS_APART = 4  # each look has a quarter of the scale of the one before
LAST_LOOK_PX = 400  # the look at which the longer side is at most this is the last
FROM_PX, UP_TO_PX = 48, 240  # sides of faces, in a look's own px: from the second look on, and in all but the last
TILE_PX, SHARED_PX = 2048, 256  # the longest side of a tile, and what two tiles have in common
EDGE_PX = 4.0  # a box so near to the edge between tiles is a face that another tile sees whole
HEAD = 0.5  # of a face's height: so far above its box a hat reaches
EMBLEM_SHARE, EMBLEM_SCORE = 0.4, 0.95  # on a head, a face of less than this share of its side must be this sure


class FacesNano:
    """faces-nano, or another finder by this project's contract. Threads may share it."""

    name = FINDER

    def __init__(
        self,
        score_threshold: float = KEEP_SCORE,
        smallest_face_px: float | None = None,
        device: str = "auto",
        threads: int | None = None,
        file: str | Path = FINDER,
        enlarge: bool = False,
    ) -> None:
        """smallest_face_px: the longer side of the smallest face to find; None: what the picture shows as it is.

        enlarge: whether a picture may be enlarged for small faces, up to twice. That finds nearly all of them and costs up to
        four times as much: for pictures that are looked at once, rather than for video, where a face is seen many times.

        Raises DetectorError, DeviceError, ModelError.
        """
        path = resolve(file)
        if path.suffix == ".engine":
            self.spec, built = read_faces_sidecar(path)
            self.graph_sha256 = built.graph_sha256
        else:
            self.spec, self.graph_sha256 = read_faces_spec(path), graph_sha256(path)
        if not self.spec.score_threshold <= score_threshold < 1:
            raise DetectorError(
                f"detector {self.spec.name}: expected a score from {self.spec.score_threshold:g} to below 1, got {score_threshold:g}"
            )
        self._score, self._smallest_px, self._enlarge = score_threshold, smallest_face_px, enlarge
        self._session: FacesSession = open_faces_session(path, device, threads)
        self.facts = self._session.facts

    def detect(self, image: Image) -> Detections:
        """Find the faces in one [H, W, 3] uint8 BGR picture, best score first."""
        return self.detect_many([image])[0]

    def detect_many(self, images: Sequence[Image]) -> list[Detections]:
        """The faces of each picture. Pictures of one size are one call."""
        found: list[Detections] = [_none()] * len(images)
        by_size: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            by_size.setdefault(image.shape[:2], []).append(i)
        for size, which in by_size.items():
            for i, faces in zip(which, self._same_sized([images[i] for i in which], size), strict=True):
                found[i] = faces
        return found

    def close(self) -> None:
        """Give the session's memory and threads back; nothing is found afterwards."""
        self._session.close()

    def scale(self, height: int, width: int) -> float:
        """The scale of the first look at a picture of this size (px)."""
        if self._smallest_px is None:
            return 1.0
        wanted = self.spec.smallest_face_px / self._smallest_px
        return min(max(wanted, min(1.0, AS_IT_IS_PX / max(height, width))), LARGEST_SCALE if self._enlarge else 1.0)

    def _same_sized(self, images: Sequence[Image], size: tuple[int, int]) -> list[Detections]:
        scale = self.scale(*size)
        looks: list[list[Detections]] = [[] for _ in images]
        wanted = list(range(len(images)))  # the pictures in which something may be too large for the looks so far
        while wanted:
            last = scale * max(size) <= LAST_LOOK_PX
            from_px, to_px = FROM_PX / scale if looks[wanted[0]] else 0.0, math.inf if last else UP_TO_PX / scale
            seen = self._look([images[i] for i in wanted], scale)
            sides = [_sides(faces) for faces in seen]
            for i, faces, side in zip(wanted, seen, sides, strict=True):
                looks[i].append(
                    faces.take(np.flatnonzero((faces.scores >= self._score) & (side >= from_px) & (side < to_px)))
                )
            large_px = LOOKS_APART * FROM_PX / scale  # what is larger, at any score, is worth another look
            wanted = [] if last else [i for i, side in zip(wanted, sides, strict=True) if side.max(initial=0) >= large_px]
            scale /= LOOKS_APART
        return [self._kept(parts) for parts in looks]

    def _look(self, images: Sequence[Image], scale: float) -> list[Detections]:
        """What the network sees in pictures of one size at this scale, one tile after another; at any score."""
        height, width = images[0].shape[:2]
        found: list[list[Detections]] = [[] for _ in images]
        for (top, bottom), (left, right) in product(_tiles(height, scale), _tiles(width, scale)):
            seen = self._at([image[top:bottom, left:right] for image in images], scale)
            for faces, mine in zip(seen, found, strict=True):
                mine.append(_whole(faces, (left, top, right, bottom), (width, height), EDGE_PX / scale))
        return [_suppressed(parts, self.spec.overlap_threshold) for parts in found]

    def _at(self, images: Sequence[Image], scale: float) -> list[Detections]:
        height, width = images[0].shape[:2]
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if size != (width, height):
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            images = [np.asarray(cv2.resize(image, size, interpolation=how), np.uint8) for image in images]
        pictures = images[0][None] if len(images) == 1 else np.stack(images)  # [N, h, w, 3]
        found = self._session.run(np.ascontiguousarray(pictures))
        boxes, landmarks = found.boxes_xyxy, found.landmarks
        if size != (width, height):
            ratio = np.array([width / size[0], height / size[1]], np.float32)
            boxes, landmarks = boxes * np.tile(ratio, 2), landmarks * ratio
        everything = Detections(boxes, found.scores, landmarks)
        if len(images) == 1:
            return [everything]
        return [everything.take(np.flatnonzero(found.picture == i)) for i in range(len(images))]

    def _kept(self, looks: Sequence[Detections]) -> Detections:
        """The faces of all looks without those that another one saw better, and without emblems; best score first."""
        faces = _suppressed(looks, self.spec.overlap_threshold)
        return faces.take(np.flatnonzero(no_emblem(faces.boxes_xyxy, faces.scores)))


def no_emblem(boxes: Floats, scores: Floats) -> npt.NDArray[np.bool_]:
    """[F] whether a face [F, 4] (xyxy px) is to be believed: not a badge or a pattern on the head of a much larger and surer face."""
    if len(boxes) < 2:
        return np.ones(len(boxes), np.bool_)
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2  # [F, 2]
    low = boxes[:, :2].copy()
    low[:, 1] -= HEAD * (boxes[:, 3] - boxes[:, 1])
    on_head = ((centers[:, None] >= low) & (centers[:, None] <= boxes[:, 2:])).all(axis=2)  # [F, F]
    much_smaller = sides[:, None] < EMBLEM_SHARE * sides[None, :]
    surer = scores[:, None] <= scores[None, :]
    return (scores >= EMBLEM_SCORE) | ~(on_head & much_smaller & surer).any(axis=1)


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
    assert faces.landmarks is not None
    return Detections(boxes, faces.scores, faces.landmarks + low).take(np.flatnonzero(~cut.any(axis=1)))


def _sides(faces: Detections) -> Floats:
    """[F] the longer side of each box (px)."""
    return (faces.boxes_xyxy[:, 2:] - faces.boxes_xyxy[:, :2]).max(axis=1, initial=0)


def _suppressed(parts: Sequence[Detections], overlap: float) -> Detections:
    """The faces of all parts without those that overlap a better one by more (IoU); best score first."""
    if len(parts) == 1:
        return parts[0]
    landmarks = [part.landmarks for part in parts if part.landmarks is not None]
    boxes, scores = np.concatenate([part.boxes_xyxy for part in parts]), np.concatenate([part.scores for part in parts])
    return Detections(boxes, scores, np.concatenate(landmarks)).take(suppress(boxes, scores, 0.0, overlap))


def _none() -> Detections:
    return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32))
