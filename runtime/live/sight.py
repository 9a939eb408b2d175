"""The frozen records that the two stages exchange, one type in each direction."""

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
    alive: frozenset[int]  # tracks of this source that may reappear
    views: npt.NDArray[np.float64]  # [F] quality of a look at each face
    refused: tuple[str | None, ...]  # [F] why a face gets no look
    asked: tuple[int, ...]  # indices of the A faces that the model looks at, ascending
    crops: npt.NDArray[np.uint8]  # [A, S, S, 3] RGB
    laps: Laps
    hide_xyxy: npt.NDArray[np.float32]  # [B, 4] px: where a face may be, shown or not; `--blur` covers it


@dataclass(frozen=True)
class Feedback:
    """What the second stage reports after a model call, for the choice of the next looks."""

    looks: int = 0  # number of faces that the model looked at
    seconds: float = 0.0  # duration of the call
    doubted: Mapping[tuple[str, int], bool] = field(default_factory=lambda: {})  # by source and track looked at
