"""What the model says about faces: a refined number, the word it came through, and how sure it may be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from .conformal_table import ConformalTable
from .spec import ModelSpec

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Readings:
    """The model's answers for N crops, in the order of the crops; corrected by the calibration where there is one."""

    value: Floats  # [N] in the task's unit
    probabilities: Floats  # [N, K] over the text bins
    embedding: Floats  # [N, D], L2-normalised
    spec: ModelSpec
    table: ConformalTable | None = None  # the spec's calibration, made ready once by the model
    sharpness: Doubles | None = None  # [N] of the crops; None: not measured, so nothing is widened

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: int) -> Reading:
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected an index below {len(self)}, got {index}")
        start = index % len(self)
        return Reading(self._slice(start))

    def __iter__(self) -> Iterator[Reading]:
        return (self[i] for i in range(len(self)))

    def _slice(self, start: int) -> Readings:
        one = slice(start, start + 1)
        sharp = None if self.sharpness is None else self.sharpness[one]
        return Readings(self.value[one], self.probabilities[one], self.embedding[one], self.spec, self.table, sharp)

    def interval(self, level: float = 0.9) -> Floats:
        """[N, 2] low and high in the task's unit, holding the true value with probability `level`.

        Raises ModelError where the model is not calibrated, ValueError for a level outside (0, 1).
        """
        table, value, difficulty = self._judged()
        return table.interval(value, difficulty, level, self.spec.task).astype(np.float32)

    def at_least(self, threshold: float) -> Floats:
        """[N] the probability that the true value is at least `threshold`; raises ModelError if not calibrated."""
        table, value, difficulty = self._judged()
        return table.at_least(value, difficulty, threshold).astype(np.float32)

    def cdf(self, threshold: float) -> Floats:
        """[N] the probability that the true value is below `threshold`; raises ModelError if not calibrated."""
        return 1 - self.at_least(threshold)

    def difficulty(self) -> Doubles:
        """[N] the expected size of each face's error, in the task's unit; raises ModelError if not calibrated."""
        return self._judged()[2]

    def _judged(self) -> tuple[ConformalTable, Doubles, Doubles]:
        """The table, and value and difficulty [N] of each face."""
        if self.spec.calibration is None:
            raise ModelError(
                f"model {self.spec.name} has no calibrated intervals; run: numclip calibrate MODEL --data DATA"
            )
        table = self.table or ConformalTable.from_json(self.spec.calibration)
        value, probabilities = self.value.astype(np.float64), self.probabilities.astype(np.float64)
        sharp = np.full(len(value), np.inf) if self.sharpness is None else self.sharpness
        return table, value, table.difficulty(value, probabilities, sharp, self.spec.task)


@dataclass(frozen=True, eq=False)
class Reading:
    """The model's answer for one face."""

    row: Readings  # of length one

    @property
    def value(self) -> float:
        """The refined number, in the task's unit."""
        return float(self.row.value[0])

    @property
    def probabilities(self) -> Floats:
        """[K] over the text bins."""
        return self.row.probabilities[0]

    @property
    def embedding(self) -> Floats:
        """[D], L2-normalised."""
        return self.row.embedding[0]

    @property
    def bin(self) -> str:
        """The word of the bin that holds the value."""
        task = self.row.spec.task
        return task.words[task.bin_of(self.value)]

    @property
    def is_calibrated(self) -> bool:
        """Whether `interval` and `at_least` can answer."""
        return self.row.spec.calibration is not None

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Low and high in the task's unit, holding the true value with probability `level`."""
        low, high = self.row.interval(level)[0]
        return float(low), float(high)

    def at_least(self, threshold: float) -> float:
        """The probability that the true value is at least `threshold`."""
        return float(self.row.at_least(threshold)[0])

    def cdf(self, threshold: float) -> float:
        """The probability that the true value is below `threshold`."""
        return 1 - self.at_least(threshold)

    def __repr__(self) -> str:
        return f"Reading({self.row.spec.task.name}={self.value:.1f} {self.row.spec.task.unit}, bin={self.bin!r})"
