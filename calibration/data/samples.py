"""One labelled picture, and the words for where it belongs."""

from __future__ import annotations

from dataclasses import dataclass, field

SPLITS = ("train", "val", "calibration", "test")


@dataclass(frozen=True)
class Sample:
    """One labelled picture."""

    file: str  # relative to the data set's folder
    label: float  # in the task's unit
    split: str | None = None
    subject: str | None = None
    near_duplicate_group: str | None = None
    groups: dict[str, str] = field(default_factory=lambda: {})
    fold: int | None = None  # of the data set's own folds
