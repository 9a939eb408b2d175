"""The model's output for faces: an estimated value, the probabilities of the text bins, and calibrated intervals."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from .conformal_table import ConformalTable, log_odds
from .spec import ModelSpec

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Readings:
    """The model's outputs for N crops, in the order of the crops, corrected by the calibration if there is one."""

    value: Floats  # [N] in the task's unit
    probabilities: Floats  # [N, K] over the text bins
    embedding: Floats  # [N, D], L2-normalised
    spec: ModelSpec
    sharpness: Doubles | None = None  # [N] of the crops; None: not measured, so no interval is widened for lost detail

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: int) -> Reading:
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected an index below {len(self)}, got {index}")
        return Reading(self, index % len(self))

    def __iter__(self) -> Iterator[Reading]:
        return (self[i] for i in range(len(self)))

    def interval(self, level: float = 0.9) -> Floats:
        """Low and high [N, 2] in the task's unit; between them lies the true value with probability `level`.

        Raises ModelError if the model is not calibrated, ValueError for a level outside (0, 1), UsageError for one above the highest
        that it is calibrated for.
        """
        self._table.check_level(level)
        return self._once(("interval", level), lambda: self._table.interval(*self._judged, level, self.spec.task))

    def at_least(self, threshold: float) -> Floats:
        """The probability [N] that the true value is at least `threshold`; raises ModelError if not calibrated."""
        return self._once(("at_least", threshold), lambda: self._table.at_least(*self._judged, threshold))

    def cdf(self, threshold: float) -> Floats:
        """The probability [N] that the true value is below `threshold`; raises ModelError if not calibrated."""
        return 1 - self.at_least(threshold)

    def log_odds(self, threshold: float) -> Floats:
        """The log odds [N], from the words' probabilities alone, that the true value is at least `threshold`."""
        return self._once(
            ("log_odds", threshold), lambda: log_odds(self.probabilities.astype(np.float64), threshold, self.spec.task)
        )

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:.1f}" for value in self.value[:8].tolist()) + (", …" if len(self) > 8 else "")
        return (
            f"Readings({len(self)}: {self.spec.task.name} {shown} {self.spec.task.unit})"
            if len(self)
            else "Readings(0)"
        )

    @functools.cached_property
    def widening(self) -> Floats:
        """The factor [N] by which intervals are widened for lost detail and for an unfamiliar face; 1 for a clear face like those of
        the calibration. Raises ModelError if not calibrated."""
        return self._table.widened(self._sharpness, self.embedding.astype(np.float64)).astype(np.float32)

    @property
    def difficulty(self) -> Doubles:
        """The expected size [N] of each face's error, in the task's unit; raises ModelError if not calibrated."""
        return self._judged[1]

    @functools.cached_property
    def _table(self) -> ConformalTable:
        if self.spec.calibration is None:
            raise ModelError(
                f"model {self.spec.name} is not calibrated and so has no intervals; run: numclip calibrate MODEL --data "
                "DATA"
            )
        return self.spec.calibration.table

    @functools.cached_property
    def _judged(self) -> tuple[Doubles, Doubles]:
        """Value and difficulty [N]: the expected size of each face's error, in the task's unit."""
        value, probabilities = self.value.astype(np.float64), self.probabilities.astype(np.float64)
        embedding = self.embedding.astype(np.float64)
        return value, self._table.difficulty(value, probabilities, self._sharpness, embedding, self.spec.task)

    @property
    def _sharpness(self) -> Doubles:
        return np.full(len(self), np.inf) if self.sharpness is None else self.sharpness

    @functools.cached_property
    def _answered(self) -> dict[tuple[str, float], Floats]:
        return {}

    def _once(self, question: tuple[str, float], answer: Callable[[], Doubles]) -> Floats:
        """The result for all N, computed once: faces are queried one by one, and each numpy call has a fixed cost."""
        if question not in self._answered:
            self._answered[question] = answer().astype(np.float32)
            self._answered[question].setflags(write=False)
        return self._answered[question]


@dataclass(frozen=True, eq=False)
class Reading:
    """The model's output for one face."""

    rows: Readings
    index: int = 0

    @property
    def value(self) -> float:
        """The estimated value, in the task's unit."""
        return float(self.rows.value[self.index])

    @property
    def probabilities(self) -> Floats:
        """[K] over the text bins."""
        return self.rows.probabilities[self.index]

    @property
    def embedding(self) -> Floats:
        """[D], L2-normalised."""
        return self.rows.embedding[self.index]

    @property
    def bin(self) -> str:
        """The word of the bin that holds the value."""
        task = self.rows.spec.task
        return task.words[task.bin_of(self.value)]

    @property
    def is_calibrated(self) -> bool:
        """Whether the model is calibrated, so that `interval` and `at_least` work."""
        return self.rows.spec.calibration is not None

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Low and high in the task's unit; between them lies the true value with probability `level`."""
        low, high = self.rows.interval(level)[self.index].tolist()
        return low, high

    def at_least(self, threshold: float) -> float:
        """The probability that the true value is at least `threshold`."""
        return self.rows.at_least(threshold).item(self.index)

    def cdf(self, threshold: float) -> float:
        """The probability that the true value is below `threshold`."""
        return 1 - self.at_least(threshold)

    def __repr__(self) -> str:
        task = self.rows.spec.task
        return f"Reading({task.name}={self.value:.1f} {task.unit}, bin={self.bin!r})"
