"""Count how many people near a threshold exceed each limit, on held-out faces: the tables that gates use."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..runtime.contract.calibration import Gates
from ..runtime.contract.gate_table import AROUND, CONFIDENCE, NEAR, GateTable, Step, YesStep
from ..runtime.contract.task import TaskSpec
from .exact import upper_bound

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.str_]
THRESHOLDS = {"age": (13.0, 16.0, 18.0, 21.0, 25.0)}  # usual legal ages; other tasks have no gates
MARGIN = 1e-4  # in log odds and in the unit, so that rounding lets nobody exceed a limit that equals their value


def fit_gates(
    log_odds: Callable[[float], Floats],
    values: Floats,
    lows: Floats,
    highs: Floats,
    task: TaskSpec,
    persons: Texts | None = None,
) -> Gates:
    """A table per threshold, keyed as "18", for thresholds with people near on both sides.

    log_odds: function from a threshold to the evidence [N] that each face is at least that old, as the runtime computes it.
    values: [N] the estimated values. lows, highs: [N] the ends of each person's known age; equal if it is exact. A band counts as
    near a threshold only if all of it is. persons: [N] who each face is; of one person's faces on one side of a threshold only the
    first counts, because the bounds hold for independent people. None: each face is another person.
    """
    fitted: dict[str, GateTable] = {}
    for threshold in THRESHOLDS.get(task.name, ()):
        below, above = near_below(threshold, lows, highs), near_above(threshold, lows, highs)
        if below.any() and above.any():
            around = (lows >= threshold) & (highs < threshold + AROUND)
            sides = [side if persons is None else first_of_each(persons, side) for side in (below, above, around)]
            fitted[f"{threshold:g}"] = _fit(log_odds(threshold), values, threshold, *sides)
    return fitted


def first_of_each(persons: Texts, chosen: Mask) -> Mask:
    """The mask [N] with only the first face of each person."""
    places = np.flatnonzero(chosen)
    first = np.zeros(len(chosen), bool)
    first[places[np.unique(persons[places], return_index=True)[1]]] = True
    return first


def near_below(threshold: float, lows: Floats, highs: Floats) -> Mask:
    """Whether [N] each person is certainly below the threshold, by at most NEAR."""
    return (lows >= threshold - NEAR) & (highs < threshold)


def near_above(threshold: float, lows: Floats, highs: Floats) -> Mask:
    """Whether [N] each person is certainly at or above the threshold, by less than NEAR."""
    return (lows >= threshold) & (highs < threshold + NEAR)


def _fit(evidence: Floats, values: Floats, threshold: float, below: Mask, above: Mask, around: Mask) -> GateTable:
    center = _equal_error(evidence[below], evidence[above])
    yes = [
        YesStep(step.rate, step.limit, round(float((evidence[around] <= step.limit).mean()), 4))
        for step in _steps(evidence[below], center)
    ]
    no = [Step(step.rate, -step.limit) for step in _steps(-evidence[above], -center)]
    challenge = tuple(_steps(values[below], threshold - 2 * MARGIN))
    return GateTable(int(below.sum()), int(above.sum()), round(center, 4), tuple(yes), tuple(no), challenge)


def _steps(evidence: Floats, center: float) -> list[Step]:
    """Descending limits on the evidence of n people, down to the center, each with the upper bound on the share above it."""
    n = len(evidence)
    steps: list[Step] = []
    for value in [*np.unique(evidence)[::-1].tolist(), -math.inf]:
        above = int((evidence > value).sum())
        rate = math.ceil(1e5 * upper_bound(above, n, CONFIDENCE)) / 1e5
        steps.append(Step(min(rate, 1.0), round(max(value, center) + MARGIN, 4)))
        if value <= center:
            break
    return steps


def _equal_error(below: Floats, above: Floats) -> float:
    """The evidence at which the share of `below` above it is nearest to the share of `above` below it."""
    at = np.unique(np.concatenate([below, above]))
    wrong_yes = (below[None] > at[:, None]).mean(axis=1)
    wrong_no = (above[None] < at[:, None]).mean(axis=1)
    return float(at[np.abs(wrong_yes - wrong_no).argmin()])
