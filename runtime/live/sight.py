"""What passes between the stage that sees and the stage that answers: frozen records, one in each direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..faces.detect import Detections
from .frames import Frame
from .stage_clock import Laps


@dataclass(frozen=True, eq=False)
class Sight:
    """One frame with its faces, before the model."""

    frame: Frame
    faces: Detections  # F of them
    track_ids: tuple[int, ...] | None  # [F]; None on pictures
    alive: frozenset[int]  # tracks of this source that may still come again
    views: npt.NDArray[np.float64]  # [F] how good a look would be
    refused: tuple[str | None, ...]  # [F] why a face is not looked at
    asked: tuple[int, ...]  # which faces the model looks at, A of them, rising
    crops: npt.NDArray[np.uint8]  # [A, S, S, 3] RGB
    laps: Laps


@dataclass(frozen=True)
class Feedback:
    """What one call of the model tells the stage that chooses the looks."""

    looks: int = 0  # faces that were looked at
    seconds: float = 0.0  # that the call took
    doubted: Mapping[tuple[str, int], bool] = field(default_factory=lambda: {})  # by source and track looked at
