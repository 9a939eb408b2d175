"""One labelled picture, and the words for where it belongs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

SPLITS = ("train", "val", "calibration", "test")


@dataclass(frozen=True)
class Sample:
    """One labelled picture."""

    file: str  # relative to the data set's folder
    label: float  # in the task's unit; of a band its first whole number
    split: str | None = None
    subject: str | None = None
    near_duplicate_group: str | None = None
    groups: dict[str, str] = field(default_factory=lambda: {})
    fold: int | None = None  # of the data set's own folds
    band_high: float | None = None  # the last whole number of the band, inf of an open one; None: the label is exact

    @property
    def ends(self) -> tuple[float, float]:
        """Lowest and highest label that the truth may have: twice the same where it is exact."""
        return self.label, self.label if self.band_high is None else self.band_high

    @property
    def middle(self) -> float:
        """The label, or the middle of its band; of an open band its lower end."""
        low, high = self.ends
        return (low + high) / 2 if math.isfinite(high) else low


def label_ends(samples: Sequence[Sample]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """[N], [N] the ends of what is known of each label; equal where it is exact."""
    ends = np.array([s.ends for s in samples], np.float64).reshape(-1, 2)
    return ends[:, 0], ends[:, 1]
