"""How well a face is seen, and when the model had better say nothing.

The limits were measured on UTKFace's validation faces with age-nano at 96 px (mean error 4.8 years): enlarged from 24 px they err
by 5.7 years, from 16 px by 7.8; at a sharpness of -2.6 by 8, at -2.7 by 12. Of 500 faces none had a yaw above 0.5, so about
profiles the model knows nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..contract.readings import Reading
from .detect import Detections

FULL_SIDE_PX = 64.0  # larger faces are not seen better
BLURRED, SHARP = -2.6, -2.0  # log energy share (sharpness.py): refused below, full weight above
FRONTAL, PROFILE = 0.15, 0.5  # yaw: full weight below, refused above
LEAST = 0.1  # weight of the worst look that is still believed

Floats = npt.NDArray[np.float64]


def sides_px(faces: Detections) -> Floats:
    """[F] the longer side of each box."""
    return (faces.boxes_xyxy[:, 2:] - faces.boxes_xyxy[:, :2]).max(axis=1, initial=0).astype(np.float64)


def yaws(faces: Detections) -> Floats:
    """[F] how far a head is turned: the nose tip's way from the middle of the eyes, along them, in eye distances; 0
    where there are no landmarks."""
    if faces.landmarks is None:
        return np.zeros(len(faces))
    right, left, nose = (faces.landmarks[:, i].astype(np.float64) for i in range(3))  # [F, 2]
    axis = left - right
    distance = np.square(axis).sum(axis=1).clip(1e-9)
    return np.abs(((nose - (right + left) / 2) * axis).sum(axis=1) / distance)


def judged(faces: Detections, min_face_px: float) -> tuple[Floats, list[str | None]]:
    """[F] how good a look would be by size and pose, 0.01 to 1, and why the model should not look, or None where it may."""
    if not len(faces):
        return np.zeros(0), []
    sides, turned = sides_px(faces), yaws(faces)
    views = (sides / FULL_SIDE_PX).clip(LEAST, 1) * _ramp(turned, PROFILE, FRONTAL)
    pairs = zip(sides.tolist(), turned.tolist(), strict=True)
    return views, ["small" if s < min_face_px else "profile" if t > PROFILE else None for s, t in pairs]


def disbelief(reading: Reading, sharpness: float) -> str | None:
    """Why a look is not believed, now that it is there, or None."""
    edges = reading.rows.spec.task.bin_edges
    if sharpness < BLURRED:
        return "blurred"
    return None if edges[0] <= reading.value <= edges[-1] else "range"


def quality(view: float, sharpness: float) -> float:
    """The weight of a look, from its view and its sharpness."""
    return view * (LEAST + (1 - LEAST) * min(max((sharpness - BLURRED) / (SHARP - BLURRED), 0.0), 1.0))


def _ramp(numbers: Floats, worst: float, best: float) -> Floats:
    """LEAST at `worst`, 1 at `best`, straight between them."""
    return LEAST + (1 - LEAST) * ((numbers - worst) / (best - worst)).clip(0, 1)
