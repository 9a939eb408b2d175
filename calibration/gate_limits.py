"""Count how many people near a threshold pass each limit, on held-out faces: the tables that gates are read from."""

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
THRESHOLDS = {"age": (13.0, 16.0, 18.0, 21.0, 25.0)}  # asked by law or custom; other tasks have no gates
MARGIN = 1e-4  # of log odds and of the unit, so that rounding lets nobody pass who was as high as the limit


def fit_gates(
    log_odds: Callable[[float], Floats], values: Floats, lows: Floats, highs: Floats, task: TaskSpec
) -> Gates:
    """A table by threshold, as "18", where there are people near it on both sides.

    log_odds: a threshold to the evidence [N] that each face is at least so old, as the runtime weighs it. values: [N] what
    each is read as. lows, highs: [N] the ends of what is known of each one's age; equal where it is known exactly. A band
    counts near a threshold only where all of it lies there.
    """
    fitted: dict[str, GateTable] = {}
    for threshold in THRESHOLDS.get(task.name, ()):
        below, above = near_below(threshold, lows, highs), near_above(threshold, lows, highs)
        if below.any() and above.any():
            around = (lows >= threshold) & (highs < threshold + AROUND)
            fitted[f"{threshold:g}"] = _fit(log_odds(threshold), values, threshold, below, above, around)
    return fitted


def near_below(threshold: float, lows: Floats, highs: Floats) -> Mask:
    """[N] who is surely below the threshold, and not by more than NEAR."""
    return (lows >= threshold - NEAR) & (highs < threshold)


def near_above(threshold: float, lows: Floats, highs: Floats) -> Mask:
    """[N] who is surely at or above the threshold, and not by NEAR or more."""
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
    """Falling limits on the evidence of n people, down to the center, each with the bound on the share above it."""
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
    """The evidence at which the share of `below` that is higher comes nearest to the share of `above` that is lower."""
    at = np.unique(np.concatenate([below, above]))
    wrong_yes = (below[None] > at[:, None]).mean(axis=1)
    wrong_no = (above[None] < at[:, None]).mean(axis=1)
    return float(at[np.abs(wrong_yes - wrong_no).argmin()])
