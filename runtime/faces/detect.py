"""Face detectors behind one protocol: a BGR picture in, boxes, landmarks and scores out.

Here is the Haar cascade that ships inside opencv-python 4 and misses half of what YuNet sees. faces-nano, the default, is in
finder.py, YuNet in yunet.py.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import DetectorError

HAAR_FILE = "haarcascade_frontalface_default.xml"
WHOLE = "whole"  # no detector: the whole picture is the one "face", for tasks that are not about faces
KEEP_SCORE = 0.6  # a track is kept at this score; it starts at a higher one (tracking.py)


@dataclass(frozen=True, eq=False)
class Detections:
    """F faces found in one picture."""

    boxes_xyxy: npt.NDArray[np.float32]  # [F, 4] px
    scores: npt.NDArray[np.float32]  # [F] 0 to 1
    landmarks: (
        npt.NDArray[np.float32] | None
    )  # [F, 5, 2] px: right eye, left eye, nose tip, right and left mouth corner

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def take(self, indices: npt.NDArray[np.intp]) -> Detections:
        """The faces at these indices, in this order."""
        landmarks = None if self.landmarks is None else self.landmarks[indices]
        return Detections(self.boxes_xyxy[indices], self.scores[indices], landmarks)

    def largest(self) -> Detections:
        """The face with the largest box, alone (or no face)."""
        sides = self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]  # [F, 2]
        return self.take(np.argsort(-sides.prod(axis=1), kind="stable")[:1])


class Detector(Protocol):
    """Anything that finds faces; `name` chooses the model's box rule when there are no landmarks."""

    name: str

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """Find the faces in one [H, W, 3] uint8 BGR picture, best score first."""
        ...


@runtime_checkable
class BatchDetector(Protocol):
    """A detector that takes several pictures in one call."""

    def detect_many(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """The faces of each [H, W, 3] uint8 BGR picture."""
        ...


def detect_all(detector: Detector, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
    """The faces of each picture, in one call where the detector can."""
    if isinstance(detector, BatchDetector):
        return detector.detect_many(images)
    return [detector.detect(image) for image in images]


class HaarDetector:
    """The frontal-face Haar cascade of opencv-python 4: boxes only, score always 1. Threads may share it, and take turns."""

    name = "haar"

    def __init__(self) -> None:
        folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
        if not hasattr(cv2, "CascadeClassifier") or not (Path(folder) / HAAR_FILE).is_file():
            raise DetectorError(
                f"detector haar: OpenCV {cv2.__version__} has no face cascade; run numclip fetch yunet, or install opencv-python<5"
            )
        self._turn = threading.Lock()  # the cascade keeps its picture between calls
        self._cascade = cv2.CascadeClassifier(str(Path(folder) / HAAR_FILE))

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """Find the frontal faces in one [H, W, 3] uint8 BGR picture, largest first."""
        if min(image.shape[:2]) < 24:
            return _no_faces(with_landmarks=False)
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        with self._turn:
            found = self._cascade.detectMultiScale(gray, scaleFactor=1.1, minNeighbors=5, minSize=(24, 24))
        boxes_xywh = np.asarray(found, np.float32).reshape(-1, 4)
        boxes = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)
        order = np.argsort(-boxes_xywh[:, 2], kind="stable")
        return Detections(boxes[order], np.ones(len(boxes), np.float32), None)


class WholePicture:
    """Finds the whole picture, surely: for models whose box rules name `whole`."""

    name = WHOLE

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """One box around a [H, W, 3] uint8 BGR picture."""
        height, width = image.shape[:2]
        return Detections(np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32), None)


def _no_faces(with_landmarks: bool) -> Detections:
    landmarks = np.empty((0, 5, 2), np.float32) if with_landmarks else None
    return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), landmarks)
