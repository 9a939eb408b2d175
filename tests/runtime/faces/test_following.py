"""Faces followed by optical flow end where they went; one that is hidden is lost, and said to be."""

from __future__ import annotations

import cv2
import numpy as np

from numclip.runtime.faces.detect import Detections
from numclip.runtime.faces.following import follow, gray_of

POINTS = np.array([[150, 110], [200, 110], [175, 140], [155, 165], [195, 165]], np.float32)


def _scene(hopper: np.ndarray, turn_deg: float, scale: float, shift: tuple[float, float], size=(480, 360)) -> tuple:
    """Her portrait turned, scaled and shifted, with the matrix that did it."""
    card = cv2.resize(hopper[60:360, 120:420], (220, 220), interpolation=cv2.INTER_AREA)
    matrix = cv2.getRotationMatrix2D((110, 110), turn_deg, scale) + np.array(
        [[0, 0, 100 + shift[0]], [0, 0, 50 + shift[1]]]
    )
    canvas = np.full((size[1], size[0], 3), 180, np.uint8)
    return cv2.warpAffine(card, matrix, size, canvas, borderMode=cv2.BORDER_TRANSPARENT), matrix


def _faces(landmarks: np.ndarray | None, box=(120, 70, 230, 200)) -> Detections:
    points = None if landmarks is None else landmarks[None]
    return Detections(np.array([box], np.float32), np.ones(1, np.float32), points)


def test_a_move_is_followed(hopper: np.ndarray) -> None:
    """Turned by 3 degrees, 4 % larger and 9 px aside: landmarks within 1 px, the box within 2 px and 4 % larger; also
    without landmarks, from a grid in the box."""
    before, start = _scene(hopper, 0, 1, (0, 0))
    after, end = _scene(hopper, 3, 1.04, (9, -4))
    way = np.vstack([end, [0, 0, 1]]) @ np.linalg.inv(np.vstack([start, [0, 0, 1]]))
    truth = POINTS @ way[:2, :2].T + way[:2, 2]
    found = follow(_faces(POINTS), gray_of(before), gray_of(after))
    assert found is not None and found.landmarks is not None
    np.testing.assert_allclose(found.landmarks[0], truth, atol=1)
    middle = np.array([175, 135]) @ way[:2, :2].T + way[:2, 2]
    for got in (found, follow(_faces(None), gray_of(before), gray_of(after))):
        assert got is not None
        box = got.boxes_xyxy[0]
        np.testing.assert_allclose((box[:2] + box[2:]) / 2, middle, atol=2)
        assert abs((box[2] - box[0]) / 110 - 1.04) < 0.02


def test_a_large_picture_is_followed_as_well(hopper: np.ndarray) -> None:
    """Flow is measured on at most 960 px; in a picture of 1920 px the answer is in its own pixels, within 2."""
    pair = [cv2.resize(_scene(hopper, 0, 1, s)[0], (1920, 1440)) for s in ((0, 0), (3, 0))]
    found = follow(_faces(4 * POINTS, (480, 280, 920, 800)), *map(gray_of, pair))
    assert found is not None and found.landmarks is not None
    np.testing.assert_allclose(found.landmarks[0], 4 * POINTS + [12, 0], atol=2)


def test_what_is_hidden_is_lost(hopper: np.ndarray) -> None:
    """Behind a black frame, a wall or another picture there is no face to follow; no faces are no loss."""
    before, _ = _scene(hopper, 0, 1, (0, 0))
    wall = before.copy()
    wall[60:220, 100:250] = np.random.default_rng(0).integers(0, 255, (160, 150, 3))
    for after in (np.zeros_like(before), wall):
        assert follow(_faces(POINTS), gray_of(before), gray_of(after)) is None
    none = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), None)
    assert follow(none, gray_of(before), gray_of(before)) is none


def test_a_repeated_frame_moves_nothing(hopper: np.ndarray) -> None:
    """The same picture again: the face stays where it was, within 0.05 px."""
    picture, _ = _scene(hopper, 0, 1, (0, 0))
    found = follow(_faces(POINTS), gray_of(picture), gray_of(picture))
    assert found is not None
    np.testing.assert_allclose(found.boxes_xyxy[0], [120, 70, 230, 200], atol=0.05)
