"""Between two detections faces are followed by the optical flow of a few of their points, at a small part of the cost.

Lucas-Kanade on an image pyramid (Bouguet, "Pyramidal implementation of the affine Lucas Kanade feature tracker", 2001), there and
back again: a point that does not come back to where it was is lost (Kalal et al., "Forward-backward error", ICPR 2010).
The similarity that fits the points best moves box and landmarks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .detect import Detections

WINDOW_PX, LEVELS = (15, 15), 3
MAX_SIDE_PX = 960  # flow is measured on a picture no larger
ASTRAY = 0.06  # in box sides: how far a point may come back from where it was, and lie off the fit
GRID = np.array([(x, y) for y in (0.3, 0.5, 0.7) for x in (0.3, 0.5, 0.7)], np.float32)  # of the box, without landmarks

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complexfloating]


@dataclass(frozen=True, eq=False)
class Gray:
    """What is kept of a frame for the next one."""

    image: npt.NDArray[np.uint8]  # [h, w]
    scale: float  # its px per px of the frame


def gray_of(image: npt.NDArray[np.uint8]) -> Gray:
    """One [H, W, 3] uint8 BGR frame without colour, and no larger than needed."""
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    shrink = math.ceil(max(gray.shape) / MAX_SIDE_PX)  # whole, because that is quick
    if shrink > 1:
        size = max(1, gray.shape[1] // shrink), max(1, gray.shape[0] // shrink)
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return Gray(np.asarray(gray, np.uint8), 1 / shrink)


def follow(faces: Detections, before: Gray, now: Gray) -> Detections | None:
    """Where the F faces of the frame before are now, in the same order; None when any of them is lost."""
    if not len(faces):
        return faces
    sides = (faces.boxes_xyxy[:, 2:] - faces.boxes_xyxy[:, :2]).max(axis=1)  # [F]
    points = _points(faces)  # [F, P, 2]
    flat = (points * before.scale).reshape(-1, 1, 2)
    there, found = _flow(before, now, flat)
    back, found_back = _flow(now, before, there)
    off = np.linalg.norm(back - flat, axis=2).reshape(points.shape[:2]) / before.scale  # [F, P]
    good = (found & found_back).reshape(points.shape[:2]).astype(bool) & (off <= ASTRAY * sides[:, None])
    if (good.sum(axis=1) < 3).any():
        return None
    moved = there.reshape(points.shape) / before.scale
    turn, shift, astray = _similarities(points, moved, good)
    if (astray > ASTRAY * sides).any():
        return None
    return _moved(faces, turn, shift)


def _flow(start: Gray, end: Gray, points: Floats) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Where points [P, 1, 2] went, and whether they were found [P, 1]."""
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        start.image, end.image, points, np.zeros_like(points), winSize=WINDOW_PX, maxLevel=LEVELS
    )
    return np.asarray(there, np.float32), np.asarray(found, np.uint8)


def _points(faces: Detections) -> Floats:
    """[F, P, 2] what is followed of each face: its landmarks, else a grid in its box."""
    if faces.landmarks is not None:
        return faces.landmarks
    corner, size = faces.boxes_xyxy[:, None, :2], faces.boxes_xyxy[:, None, 2:] - faces.boxes_xyxy[:, None, :2]
    return (corner + GRID[None] * size).astype(np.float32)


def _similarities(a: Floats, b: Floats, good: npt.NDArray[np.bool_]) -> tuple[Complexes, Complexes, Doubles]:
    """Per face the similarity z -> turn z + shift (complex [F]) that fits its good points best, and the rms misfit [F]."""
    weight = good / good.sum(axis=1, keepdims=True)  # [F, P]
    z, w = a[..., 0] + 1j * a[..., 1], b[..., 0] + 1j * b[..., 1]
    z_mean, w_mean = (weight * z).sum(axis=1), (weight * w).sum(axis=1)
    dz, dw = z - z_mean[:, None], w - w_mean[:, None]
    turn = (weight * dz.conj() * dw).sum(axis=1) / np.maximum((weight * np.abs(dz) ** 2).sum(axis=1), 1e-9)
    misfit = np.sqrt((weight * np.abs(dw - turn[:, None] * dz) ** 2).sum(axis=1))
    return turn, w_mean - turn * z_mean, misfit


def _moved(faces: Detections, turn: Complexes, shift: Complexes) -> Detections:
    """The faces after their similarities; a box stays upright and takes the scale."""
    boxes = faces.boxes_xyxy
    center = turn * (boxes[:, 0] + boxes[:, 2] + 1j * (boxes[:, 1] + boxes[:, 3])) / 2 + shift
    half = np.abs(turn)[:, None] * (boxes[:, 2:] - boxes[:, :2]) / 2
    middle = np.stack([center.real, center.imag], axis=1)
    landmarks = faces.landmarks
    if landmarks is not None:
        z = turn[:, None] * (landmarks[..., 0] + 1j * landmarks[..., 1]) + shift[:, None]
        landmarks = np.stack([z.real, z.imag], axis=2).astype(np.float32)
    return Detections(
        np.concatenate([middle - half, middle + half], axis=1).astype(np.float32), faces.scores, landmarks
    )
