"""A face detector compared with another one and with labels, hand-counted."""

from __future__ import annotations

import numpy as np

from numclip.calibration.measure.finders import FoundShare, LabelledPicture, measure_finder
from numclip.runtime.faces.detect import Detections

PICTURE = np.zeros((400, 400, 3), np.uint8)
FACE, OTHER, TINY, NOWHERE = (10, 10, 60, 60), (100, 100, 150, 150), (300, 300, 310, 310), (200, 200, 260, 260)


class Says:
    """A detector that always returns the same faces: box (xyxy px) and score of each."""

    name = "says"

    def __init__(self, *faces: tuple[tuple[float, ...], float], shift_px: float = 0.0) -> None:
        boxes = np.array([box for box, _ in faces], np.float32).reshape(-1, 4)
        points = (
            (boxes[:, :2] + boxes[:, 2:])[:, None] / 2
            + np.zeros((1, 5, 1), np.float32)
            + np.array([shift_px, 0], np.float32)
        ).astype(np.float32)
        self._found = Detections(boxes, np.array([score for _, score in faces], np.float32), points)

    def detect(self, image: np.ndarray) -> Detections:
        return self._found


def labelled(*boxes: tuple[float, ...], complete: bool = True) -> LabelledPicture:
    return LabelledPicture(PICTURE, np.array(boxes, np.float32).reshape(-1, 4), ("bare",) * len(boxes), complete)


def test_found_strange_and_labelled_faces_are_counted() -> None:
    """Of the reference's two faces (a weak and a tiny one do not count) one is found; one box is a false positive; of two labels
    one is found."""
    mine = Says((FACE, 0.9), (NOWHERE, 0.9), (OTHER, 0.5), (TINY, 0.9))
    reference = Says((FACE, 0.95), (OTHER, 0.85), (NOWHERE, 0.5), (TINY, 0.9))
    report = measure_finder(mine, reference, [labelled(FACE, OTHER)], score=0.8)
    assert report.reference == FoundShare(1, 2)
    assert report.strangers == 1 and report.strangers_of_reference == 0
    assert report.labels == {"bare": FoundShare(1, 2)} and report.labels_of_reference == {"bare": FoundShare(2, 2)}


def test_a_tiny_box_is_no_fault_and_a_large_one_on_an_empty_picture_is() -> None:
    """On a picture without faces, boxes of 24 px or more count as false positives for both detectors."""
    report = measure_finder(Says((TINY, 0.9), (FACE, 0.9)), Says((TINY, 0.9)), [labelled()])
    assert (report.false_on_empty, report.false_on_empty_of_reference) == (1, 0)
    assert report.reference == FoundShare(0, 0) and report.landmarks_median is None


def test_landmarks_are_apart_by_shares_of_the_box() -> None:
    """Landmarks that are 5 px off in a box of 50 px have a distance of 0.1, also in the JSON."""
    report = measure_finder(Says((FACE, 0.9), shift_px=5), Says((FACE, 0.9)), [labelled(FACE)])
    assert report.to_json()["landmarks_median"] == 0.1 and report.to_json()["reference"] == {"found": 1, "n": 1}
