"""Face detectors behind one protocol: a BGR picture in, boxes, landmarks and scores out.

Here are YuNet (MIT), which faces-nano was taught by, and the Haar cascade that ships inside opencv-python 4 and misses half of
what YuNet sees. faces-nano, the default, is in finder.py.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import DetectorError
from ..places import cache_dir

YUNET_FILE = "face_detection_yunet_2023mar.onnx"
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
YUNET_SIDES_PX = (960, 320)  # longest side looked at first, and again when nothing was found (very large faces)
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


def yunet_path() -> Path | None:
    """YuNet's file: NUMCLIP_YUNET if set (it must exist), else the cache; None when there is none."""
    named = os.environ.get("NUMCLIP_YUNET")
    if named:
        if not Path(named).is_file():
            raise DetectorError(
                f"NUMCLIP_YUNET: expected the YuNet file, found nothing at {named}; correct or unset it"
            )
        return Path(named)
    cached = cache_dir() / YUNET_FILE
    return cached if cached.is_file() else None


class YuNetDetector:
    """YuNet through cv2.FaceDetectorYN: boxes, five landmarks and scores. Threads may share it, and take turns."""

    name = "yunet"

    def __init__(self, score_threshold: float = KEEP_SCORE) -> None:
        path = yunet_path()
        if path is None:
            raise DetectorError(
                "detector yunet: its file is neither at NUMCLIP_YUNET nor in the cache; run: numclip fetch yunet"
            )
        try:
            self._turn = threading.Lock()  # the net keeps its input size and buffers between calls
            self._net = cv2.FaceDetectorYN.create(str(path), "", (320, 320), score_threshold, 0.3, 5000)
        except cv2.error as error:
            raise DetectorError(
                f"{path} is not a YuNet that OpenCV opens ({error.err}); run: numclip fetch yunet"
            ) from None

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """Find the faces in one [H, W, 3] uint8 BGR picture, best score first."""
        height, width = image.shape[:2]
        if min(height, width) < 8:
            return _no_faces(with_landmarks=True)
        rows = np.empty((0, 15), np.float32)
        for side in YUNET_SIDES_PX:
            ratio = min(1.0, side / max(height, width))
            rows = self._rows(image, ratio)
            if len(rows) or ratio == 1.0:
                break
        if not len(rows):
            return _no_faces(with_landmarks=True)
        rows = rows[np.argsort(-rows[:, 14], kind="stable")]  # [F, 15]: x y w h, five (x, y), score
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        return Detections(boxes, rows[:, 14].copy(), rows[:, 4:14].reshape(-1, 5, 2))

    def _rows(self, image: npt.NDArray[np.uint8], ratio: float) -> npt.NDArray[np.float32]:
        height, width = image.shape[:2]
        size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
        small = image if ratio == 1.0 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        with self._turn:
            self._net.setInputSize(size)
            found = self._net.detect(small)[1]
        if found is None:
            return np.empty((0, 15), np.float32)
        rows = np.asarray(found, np.float32)
        rows[:, 0:14:2] *= width / size[0]
        rows[:, 1:14:2] *= height / size[1]
        return rows


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
