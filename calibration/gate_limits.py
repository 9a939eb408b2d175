"""Fit the limits of age gates on held-out faces: label-conditional conformal prediction with two labels."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..runtime.conformal_table import ConformalTable
from ..runtime.spec import TaskSpec

Floats = npt.NDArray[np.float64]
THRESHOLDS = {"age": (13.0, 16.0, 18.0, 21.0, 25.0)}  # asked by law or custom; other tasks have no gates
ERRORS = (0.005, 0.01, 0.02, 0.05)
DIGITS = 5


def fit_gates(
    table: ConformalTable, values: Floats, difficulty: Floats, labels: Floats, task: TaskSpec
) -> dict[str, dict[str, list[float]]]:
    """Limits of the probability to be at least the threshold: {"18": {"0.01": [yes_above, no_below]}}.

    A rate that the faces cannot show (fewer than 1 / error - 1 on either side) is left out.
    """
    gates: dict[str, dict[str, list[float]]] = {}
    for threshold in THRESHOLDS.get(task.name, ()):
        p = table.at_least(values, difficulty, threshold)
        below, above = p[labels < threshold], p[labels >= threshold]
        limits = {
            f"{error:g}": [_just_above(yes), round(1 - _just_above(no), DIGITS)]
            for error in ERRORS
            if (yes := upper_limit(below, error)) is not None and (no := upper_limit(1 - above, error)) is not None
        }
        if limits:
            gates[f"{threshold:g}"] = limits
    return gates


def _just_above(limit: float) -> float:
    """Rounded so that no answer that was as high as the limit passes it, in float32 either."""
    return (math.floor(limit * 10**DIGITS) + 1) / 10**DIGITS


def upper_limit(evidence: Floats, error: float) -> float | None:
    """The limit that a further face of this kind exceeds with probability at most `error`; None with too few faces.

    Of n exchangeable faces and one more, the one more is among the floor((n+1) error) highest that often.
    """
    n = len(evidence)
    allowed = math.floor((n + 1) * error + 1e-9)
    if allowed < 1:
        return None
    return float(np.sort(evidence)[n - allowed])
