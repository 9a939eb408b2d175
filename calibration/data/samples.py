"""One labelled picture, and the words for where it belongs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

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
