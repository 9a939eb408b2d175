"""Faces tracked by optical flow reach their new places; a hidden face is reported as lost."""

from __future__ import annotations

import cv2
import numpy as np

from numclip.runtime.faces.detect import Detections
from numclip.runtime.faces.following import follow, gray_of

POINTS = np.array([[150, 110], [200, 110], [175, 140], [155, 165], [195, 165]], np.float32)


def _scene(hopper: np.ndarray, turn_deg: float, scale: float, shift: tuple[float, float], size=(480, 360)) -> tuple:
    """Return the portrait rotated, scaled and shifted, with the matrix."""
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
    """After a rotation by 3 degrees, scaling by 4 % and a shift of 9 px, landmarks are within 1 px, and the box within 2 px and 4 %
    larger; also without landmarks, from a grid in the box."""
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
    """Flow is computed on at most 960 px; for a picture of 1920 px the result is in the picture's px, within 2 px."""
    pair = [cv2.resize(_scene(hopper, 0, 1, s)[0], (1920, 1440)) for s in ((0, 0), (3, 0))]
    found = follow(_faces(4 * POINTS, (480, 280, 920, 800)), *map(gray_of, pair))
    assert found is not None and found.landmarks is not None
    np.testing.assert_allclose(found.landmarks[0], 4 * POINTS + [12, 0], atol=2)


def test_what_is_hidden_is_lost(hopper: np.ndarray) -> None:
    """In a black frame, behind a wall, or in another picture the face is lost; no faces give an empty result."""
    before, _ = _scene(hopper, 0, 1, (0, 0))
    wall = before.copy()
    wall[60:220, 100:250] = np.random.default_rng(0).integers(0, 255, (160, 150, 3))
    for after in (np.zeros_like(before), wall):
        assert follow(_faces(POINTS), gray_of(before), gray_of(after)) is None
    none = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), None)
    assert follow(none, gray_of(before), gray_of(before)) is none


def test_a_repeated_frame_moves_nothing(hopper: np.ndarray) -> None:
    """In a repeated picture the face stays in place, within 0.05 px."""
    picture, _ = _scene(hopper, 0, 1, (0, 0))
    found = follow(_faces(POINTS), gray_of(picture), gray_of(picture))
    assert found is not None
    np.testing.assert_allclose(found.boxes_xyxy[0], [120, 70, 230, 200], atol=0.05)
