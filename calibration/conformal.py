"""Fit the table of residual quantiles on labelled faces: split conformal, normalised, localised by predicted value.

For each knot the calibration faces are weighted by how near their predicted value lies. The quantile at level t of the
weighted residuals counts one further face, the one to be judged, at the far end: with equal weights that is the
ceil((n+1) t)-th smallest residual of n, the finite-sample correction of split conformal prediction (Vovk et al.).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..runtime.conformal_table import ConformalTable, spread
from ..runtime.spec import TaskSpec

Floats = npt.NDArray[np.float64]
MIN_FACES = 30
FACES_PER_KNOT = 300  # fewer faces make fewer knots, down to one
MAX_KNOTS = 8
LEVELS = np.array([0.005, 0.01, 0.02, 0.025, *np.arange(0.05, 0.951, 0.05).round(3), 0.975, 0.98, 0.99, 0.995])
FOLDS = 5


@dataclass(frozen=True, eq=False)
class LabelledReadings:
    """A model's answers beside the truth."""

    values: Floats  # [N] in the task's unit
    probabilities: Floats  # [N, K]
    labels: Floats  # [N]

    def take(self, chosen: npt.NDArray[np.bool_]) -> LabelledReadings:
        """Those of a mask [N]."""
        return LabelledReadings(self.values[chosen], self.probabilities[chosen], self.labels[chosen])


def fit_table(faces: LabelledReadings, task: TaskSpec) -> ConformalTable:
    """Fit the table; raises DataError for fewer than 30 faces."""
    n = len(faces.labels)
    if n < MIN_FACES:
        raise DataError(
            f"expected at least {MIN_FACES} labelled faces to calibrate, got {n}; add faces (100 or more are better)"
        )
    residuals = faces.labels - faces.values
    spreads = spread(faces.values, faces.probabilities, task)
    base, slope = _difficulty(spreads, np.abs(residuals))
    normalised = residuals / (base + slope * spreads)
    knots = _knots(faces.values)
    order = np.argsort(normalised, kind="stable")
    rows = [weighted_quantiles(normalised[order], w[order], LEVELS) for w in _nearness(faces.values, knots)]
    return ConformalTable(knots, LEVELS, np.array(rows), base, slope)


def weighted_quantiles(rising: Floats, weights: Floats, levels: Floats) -> Floats:
    """[L] quantiles of rising residuals [N] with weights [N], with one more face of weight 1 at the far end.

    Above the middle the first residual that enough weight stays below, under it the last that not too much does. Where
    the further face would decide, which is infinitely far, the outermost residual is given: n faces cannot promise more.
    """
    total = weights.sum() + 1
    share = np.cumsum(weights) / total  # [N] P(the further face's residual <= this one)
    at_up = np.searchsorted(share, levels - 1e-12, side="left")
    at_down = np.searchsorted(share, levels + 1e-12, side="right") - 1
    at = np.where(levels >= 0.5, at_up, at_down).clip(0, len(rising) - 1)
    return np.maximum.accumulate(rising[at])


def cross_coverage(faces: LabelledReadings, task: TaskSpec, levels: tuple[float, ...]) -> dict[str, float]:
    """Share of faces inside their interval at each level, each judged by a table fitted without it (5 folds)."""
    fold = np.random.default_rng(0).permutation(len(faces.labels)) % FOLDS
    inside: dict[str, list[npt.NDArray[np.bool_]]] = {f"{level:g}": [] for level in levels}
    for k in range(FOLDS):
        held = faces.take(fold == k)
        kept = faces.take(fold != k)
        if len(kept.labels) < MIN_FACES:
            return {}
        table = fit_table(kept, task)
        difficulty = table.difficulty(held.values, held.probabilities, task)
        for level in levels:
            ends = table.interval(held.values, difficulty, level, task)
            inside[f"{level:g}"].append((held.labels >= ends[:, 0]) & (held.labels <= ends[:, 1]))
    return {level: round(float(np.concatenate(parts).mean()), 4) for level, parts in inside.items()}


def _difficulty(spreads: Floats, errors: Floats) -> tuple[float, float]:
    """base and slope, both at least 0: a line through the errors over the spread, by least squares."""
    design = np.stack([np.ones_like(spreads), spreads], axis=1)
    base, slope = np.linalg.lstsq(design, errors, rcond=None)[0]
    floor = max(1e-3, 0.1 * float(errors.mean()))
    if slope <= 0:
        return max(float(errors.mean()), floor), 0.0
    if base < floor:
        return floor, max(0.0, float(((errors - floor) * spreads).sum() / max((spreads**2).sum(), 1e-9)))
    return float(base), float(slope)


def _knots(values: Floats) -> Floats:
    """[M] predicted values with equally many faces between them."""
    count = int(np.clip(len(values) // FACES_PER_KNOT, 1, MAX_KNOTS))
    if count == 1:
        return np.array([float(np.median(values))])
    return np.unique(np.quantile(values, np.linspace(0, 1, count)).round(3))


def _nearness(values: Floats, knots: Floats) -> Floats:
    """[M, N] weights in [0, 1]: 1 at the knot, falling linearly to 0 at its neighbours; they sum to 1 for every face."""
    if len(knots) == 1:
        return np.ones((1, len(values)))
    place = np.interp(values, knots, np.arange(len(knots)))
    return (1 - np.abs(place[None] - np.arange(len(knots))[:, None])).clip(0)
