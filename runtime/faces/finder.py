"""faces-nano, the face finder that ships: this project's own network, with everything after the pixels inside its graph.

The picture is shrunk as far as the smallest face that is asked for allows, so a close-up costs little and a small face in a 4K
frame is still found. A picture that stays large is looked at once more, small, for the faces that nearly fill it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import DetectorError
from ..contract.model_file import FINDER, graph_sha256, read_faces_spec, resolve
from ..sessions.engine_file import read_faces_sidecar
from ..sessions.faces_session import FacesSession
from ..sessions.opening import open_faces_session
from .detect import KEEP_SCORE, Detections

Image = npt.NDArray[np.uint8]
AS_IT_IS_PX = 640  # a picture with no longer side is never shrunk: it costs little
GLANCE_PX = 320  # the longer side of the second, small look
LARGE_SHARE = 0.4  # of a picture's longer side: a face from this size on is believed to the second look
HEAD = 0.5  # of a face's height: so far above its box a hat reaches
EMBLEM_SHARE, EMBLEM_SCORE = 0.4, 0.95  # on a head, a face of less than this share of its side must be this sure
PART_OF_A_FACE = 0.3  # the share of a smaller box inside a large face from which it is taken for a part of it


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
    ) -> None:
        """smallest_face_px: the longer side of the smallest face to find; None: as small as it can.

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
        self._score, self._smallest_px = score_threshold, smallest_face_px
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

    def shrunk_to(self, height: int, width: int) -> tuple[int, int]:
        """Height and width (px) at which a picture of this size is looked at."""
        longer, smallest = max(height, width), self._smallest_px
        allowed = 1.0 if smallest is None else min(1.0, self.spec.smallest_face_px / smallest)
        ratio = min(1.0, max(allowed, AS_IT_IS_PX / longer))
        return max(1, round(height * ratio)), max(1, round(width * ratio))

    def _same_sized(self, images: Sequence[Image], size: tuple[int, int]) -> list[Detections]:
        at = self.shrunk_to(*size)
        found = self._at(images, at)
        if max(at) > AS_IT_IS_PX:
            ratio = GLANCE_PX / max(size)
            glances = self._at(images, (max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))))
            found = [
                _with_large(faces, large, LARGE_SHARE * max(size)) for faces, large in zip(found, glances, strict=True)
            ]
        return found

    def _at(self, images: Sequence[Image], size: tuple[int, int]) -> list[Detections]:
        height, width = images[0].shape[:2]
        if size != (height, width):
            small = [cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image in images]
        else:
            small = list(images)
        pictures = small[0][None] if len(small) == 1 else np.stack(small)  # [N, h, w, 3]
        found = self._session.run(np.ascontiguousarray(pictures, np.uint8))
        scale = np.array([width / size[1], height / size[0]], np.float32)
        boxes, landmarks = found.boxes_xyxy * np.tile(scale, 2), found.landmarks * scale
        believed = found.scores >= self._score
        per_picture = [np.flatnonzero(believed & (found.picture == i)) for i in range(len(small))]
        per_picture = [which[no_emblem(boxes[which], found.scores[which])] for which in per_picture]
        return [Detections(boxes[which], found.scores[which], landmarks[which]) for which in per_picture]


def no_emblem(boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """[F] whether a face [F, 4] (xyxy px) is to be believed: not a badge or a pattern on the head of a much larger face."""
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2  # [F, 2]
    low = boxes[:, :2] - np.stack([np.zeros(len(boxes), np.float32), HEAD * (boxes[:, 3] - boxes[:, 1])], axis=1)
    on_head = ((centers[:, None] >= low) & (centers[:, None] <= boxes[:, 2:])).all(axis=2)  # [F, F]
    much_smaller = sides[:, None] < EMBLEM_SHARE * sides[None, :]
    return (scores >= EMBLEM_SCORE) | ~(on_head & much_smaller).any(axis=1)


def _with_large(faces: Detections, glance: Detections, from_px: float) -> Detections:
    """The faces of the thorough look, and of the small one the large faces, in whose place nothing smaller stays."""
    sides = (glance.boxes_xyxy[:, 2:] - glance.boxes_xyxy[:, :2]).max(axis=1, initial=0)
    large = glance.take(np.flatnonzero(sides >= from_px))
    if not len(large):
        return faces
    others = faces.take(np.flatnonzero(_inside(faces.boxes_xyxy, large.boxes_xyxy).max(axis=1) <= PART_OF_A_FACE))
    assert others.landmarks is not None and large.landmarks is not None
    scores = np.concatenate([large.scores, others.scores])
    order = np.argsort(-scores, kind="stable")
    boxes = np.concatenate([large.boxes_xyxy, others.boxes_xyxy])
    landmarks = np.concatenate([large.landmarks, others.landmarks])
    return Detections(boxes[order], scores[order], landmarks[order])


def _inside(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """[A, B] the share of each of the [A, 4] boxes that lies in each of the [B, 4] (xyxy)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clip(0).prod(axis=2)
    return shared / np.maximum((a[:, 2:] - a[:, :2]).prod(axis=1), 1e-9)[:, None]


def _none() -> Detections:
    return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32))
