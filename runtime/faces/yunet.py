"""YuNet (MIT licence) in OpenCV. faces-nano learned from it."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import DetectorError
from ..places import cache_dir
from .detect import KEEP_SCORE, Detections
from .looks import Looks

Image = npt.NDArray[np.uint8]
YUNET_FILE = "face_detection_yunet_2023mar.onnx"
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
LOWEST_SCORE, OVERLAP, MOST_CELLS = 0.3, 0.3, 5000
RELIABLE_PX = 48.0  # at twice their size it finds 28 to 34 of 40 portraits of 28 px on a photograph
LEAST_SIDE_PX = 8


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

    def __init__(
        self,
        score_threshold: float = KEEP_SCORE,
        smallest_face_px: float | None = None,
        file: Path | None = None,
    ) -> None:
        """smallest_face_px: the longer side of the smallest face to find; None: the picture is looked at as it is.

        file: None for the one at NUMCLIP_YUNET or in the cache.

        Raises DetectorError where there is none.
        """
        path = file or yunet_path()
        if path is None:
            raise DetectorError(
                "detector yunet: its file is neither at NUMCLIP_YUNET nor in the cache; run: numclip fetch yunet"
            )
        self._score = score_threshold
        self._turn = threading.Lock()  # the net keeps its input size and buffers between calls
        self.looks = Looks(RELIABLE_PX, OVERLAP, smallest_face_px)
        try:
            lowest = min(LOWEST_SCORE, score_threshold)
            self._net = cv2.FaceDetectorYN.create(str(path), "", (320, 320), lowest, OVERLAP, MOST_CELLS)
        except cv2.error as error:
            raise DetectorError(
                f"{path} is not a YuNet that OpenCV opens ({error.err}); run: numclip fetch yunet"
            ) from None

    def detect(self, image: Image) -> Detections:
        """Find the faces in one [H, W, 3] uint8 BGR picture, best score first."""
        return self.looks.find([image], self._see, self._score)[0]

    def _see(self, images: Sequence[Image]) -> list[Detections]:
        return [self._seen(image) for image in images]

    def _seen(self, image: Image) -> Detections:
        """What it finds in a picture as it is, best score first."""
        found = None
        if min(image.shape[:2]) >= LEAST_SIDE_PX:
            with self._turn:
                self._net.setInputSize(image.shape[1::-1])
                found = self._net.detect(image)[1]
        rows = np.empty((0, 15), np.float32) if found is None else np.asarray(found, np.float32)
        rows = rows[np.argsort(-rows[:, 14], kind="stable")]  # [F, 15]: x y w h, five (x, y), score
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        return Detections(boxes, rows[:, 14].copy(), rows[:, 4:14].reshape(-1, 5, 2))
