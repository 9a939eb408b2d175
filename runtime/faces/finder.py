"""faces-nano, the face finder that ships: this project's own network, with everything after the pixels inside its graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import DetectorError
from ..contract.model_file import FINDER, graph_sha256, read_faces_spec, resolve
from ..sessions.engine_file import read_faces_sidecar
from ..sessions.faces_session import FacesSession
from ..sessions.opening import open_faces_session
from .detect import KEEP_SCORE, Detections
from .looks import Looks

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
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
    ) -> None:
        """smallest_face_px: the longer side of the smallest face to find. None: the picture is looked at as it is.

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
        self._score = score_threshold
        self.looks = Looks(self.spec.smallest_face_px, self.spec.overlap_threshold, smallest_face_px)
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
        for which in by_size.values():
            seen = self.looks.find([images[i] for i in which], self._see, self._score)
            for i, faces in zip(which, seen, strict=True):
                found[i] = faces.take(np.flatnonzero(no_emblem(faces.boxes_xyxy, faces.scores)))
        return found

    def close(self) -> None:
        """Give the session's memory and threads back; nothing is found afterwards."""
        self._session.close()

    def _see(self, images: Sequence[Image]) -> list[Detections]:
        """What the graph finds in pictures of one size."""
        pictures = images[0][None] if len(images) == 1 else np.stack(images)  # [N, h, w, 3]
        found = self._session.run(np.ascontiguousarray(pictures))
        faces = Detections(found.boxes_xyxy, found.scores, found.landmarks)
        return (
            [faces]
            if len(images) == 1
            else [faces.take(np.flatnonzero(found.picture == i)) for i in range(len(images))]
        )


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


def _none() -> Detections:
    return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32))
