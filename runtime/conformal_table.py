"""Intervals that hold: a small table of residual quantiles, fitted on labelled faces, applied by a few lines of numpy.

The table says how far the truth lies from the predicted value, in units of the face's own difficulty, at many quantile
levels and for several predicted values; between them it is interpolated. Read as one function of the truth it is a
conformal predictive distribution: intervals at any level and the probability of passing any threshold come from the
same numbers. Sources: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World" (split conformal); Papadopoulos
et al. 2008 (normalised residuals); Vovk et al. 2019 (conformal predictive systems); Guan 2023 (localised weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from .spec import TaskSpec

Floats = npt.NDArray[np.float64]
KIND = "conformal"


@dataclass(frozen=True, eq=False)
class ConformalTable:
    """Quantiles of (truth - value) / difficulty, by predicted value and level."""

    knots: Floats  # [M] rising predicted values, in the task's unit
    levels: Floats  # [L] rising, in (0, 1)
    quantiles: Floats  # [M, L] rising along L
    base: float  # difficulty = base + slope * spread, in the task's unit
    slope: float

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> ConformalTable:
        """The table in a spec's calibration; raises ModelError naming the field that is wrong."""
        if raw.get("kind") != KIND:
            raise ModelError(f"spec field calibration.kind: expected {KIND}, got {raw.get('kind')!r}; calibrate again")
        try:
            names = ("knots", "levels", "quantiles")
            knots, levels, quantiles = (np.asarray(raw[name], np.float64) for name in names)
            table = ConformalTable(knots, levels, quantiles, float(raw["base"]), float(raw["slope"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"spec field calibration: expected a table, failed at {error}; calibrate again") from None
        rising = (np.diff(knots) > 0).all() and (np.diff(levels) > 0).all() and (np.diff(quantiles, axis=1) >= 0).all()
        if quantiles.shape != (len(knots), len(levels)) or not len(knots) or not rising:
            raise ModelError("spec field calibration.quantiles: expected rising [knots, levels]; calibrate again")
        if not (np.isfinite(quantiles).all() and table.base > 0 and table.slope >= 0):
            raise ModelError("spec field calibration.base: expected finite numbers above 0; calibrate again")
        return table

    def to_json(self) -> dict[str, Any]:
        """The fields as plain lists, rounded to 5 digits."""
        fields = {
            k: np.round(v, 5).tolist() if isinstance(v, np.ndarray) else round(v, 5) for k, v in asdict(self).items()
        }
        return {"kind": KIND, **fields}

    def difficulty(self, value: Floats, probabilities: Floats, task: TaskSpec) -> Floats:
        """[N] the expected size of the error, from how far the words disagree: base + slope * spread."""
        return self.base + self.slope * spread(value, probabilities, task)

    def quantile(self, value: Floats, difficulty: Floats, level: float) -> Floats:
        """[N] the number that the truth stays below with probability `level`."""
        if not 0 < level < 1:
            raise ValueError(f"expected a level between 0 and 1, got {level}")
        at_knots = np.array([np.interp(level, self.levels, row) for row in self.quantiles])  # [M]
        return value + difficulty * np.interp(value, self.knots, at_knots)

    def interval(self, value: Floats, difficulty: Floats, level: float, task: TaskSpec) -> Floats:
        """[N, 2] the central interval that holds the truth with probability `level`, inside the task's range."""
        ends = [self.quantile(value, difficulty, (1 - level) / 2), self.quantile(value, difficulty, (1 + level) / 2)]
        return np.stack(ends, axis=1).clip(task.low, task.high)

    def at_least(self, value: Floats, difficulty: Floats, threshold: float) -> Floats:
        """[N] the probability that the truth is at least `threshold`; never surer than the table's outermost levels."""
        z = (threshold - value) / difficulty  # [N]
        below = np.stack([np.interp(z, row, self.levels) for row in self.quantiles])  # [M, N] P(truth < threshold)
        place = np.interp(value, self.knots, np.arange(len(self.knots)))
        low = np.minimum(place.astype(np.intp), len(self.knots) - 1)
        high = np.minimum(low + 1, len(self.knots) - 1)
        part = place - low
        each = np.arange(len(value))
        return 1 - ((1 - part) * below[low, each] + part * below[high, each])


def spread(value: Floats, probabilities: Floats, task: TaskSpec) -> Floats:
    """[N] root mean square distance of the bin centers from the value, weighted by the probabilities [N, K]."""
    distance = np.asarray(task.bin_centers)[None] - value[:, None]  # [N, K]
    return np.sqrt((probabilities * distance**2).sum(axis=1))
