"""One labelled picture, and the names of splits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SPLITS = ("train", "val", "calibration", "test")


@dataclass(frozen=True)
class Sample:
    """One labelled picture."""

    file: str  # relative to the data set's folder
    label: float  # in the task's unit; for a band, its first whole number
    split: str | None = None
    subject: str | None = None
    near_duplicate_group: str | None = None
    groups: dict[str, str] = field(default_factory=lambda: {})
    fold: int | None = None  # of the data set's own folds
    band_high: float | None = None  # the band's last whole number, inf without an upper end; None: the label is exact

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and highest possible true value; equal if the label is exact."""
        return self.label, self.label if self.band_high is None else self.band_high

    def person(self, dataset: str) -> str:
        """A name for the person in the picture, unique over data sets; a picture without a known subject is a person by itself."""
        return f"{dataset}/subject/{self.subject}" if self.subject else f"{dataset}/file/{self.file}"

    @property
    def middle(self) -> float:
        """The label, or the middle of its band; for a band without an upper end, the lower end."""
        low, high = self.ends
        return (low + high) / 2 if math.isfinite(high) else low
