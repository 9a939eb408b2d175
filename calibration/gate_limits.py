"""Fit the limits of age gates on held-out faces: label-conditional conformal prediction with two labels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..runtime.contract.calibration import Gates
from ..runtime.contract.task import TaskSpec

Floats = npt.NDArray[np.float64]
THRESHOLDS = {"age": (13.0, 16.0, 18.0, 21.0, 25.0)}  # asked by law or custom; other tasks have no gates
ERRORS = (0.005, 0.01, 0.02, 0.05)
MARGIN = 1e-4  # of log odds, so that rounding lets nobody pass who was as high as the limit


def fit_gates(log_odds: Callable[[float], Floats], labels: Floats, task: TaskSpec) -> Gates:
    """Limits by threshold and error rate: {"18": {"0.01": (yes_above, no_below)}}.

    log_odds: a threshold to the evidence [N] that each face is at least so old, as the runtime weighs it.
    A rate that the faces cannot show (fewer than 1 / error - 1 on either side) is left out.
    """
    gates: dict[str, dict[str, tuple[float, float]]] = {}
    for threshold in THRESHOLDS.get(task.name, ()):
        evidence = log_odds(threshold)
        below, above = evidence[labels < threshold], evidence[labels >= threshold]
        limits = {
            f"{error:g}": (round(yes + MARGIN, 4), round(-no - MARGIN, 4))
            for error in ERRORS
            if (yes := upper_limit(below, error)) is not None and (no := upper_limit(-above, error)) is not None
        }
        if limits:
            gates[f"{threshold:g}"] = limits
    return gates


def upper_limit(evidence: Floats, error: float) -> float | None:
    """The limit that a further face of this kind exceeds with probability at most `error`; None with too few faces.

    Of n exchangeable faces and one more, the one more is among the floor((n+1) error) highest that often.
    """
    n = len(evidence)
    allowed = math.floor((n + 1) * error + 1e-9)
    if allowed < 1:
        return None
    return float(np.sort(evidence)[n - allowed])
