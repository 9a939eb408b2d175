"""The age gate: is this person at least so old? yes, no, or ask for a document; at an error rate that was measured.

For each threshold the model file holds two limits per error rate, fitted on held-out faces by `numclip calibrate`: `yes`
was said to at most that share of those below the threshold, `no` to at most that share of those at or above it (conformal
p-values of two classes; Vovk et al., "Algorithmic Learning in a Random World", label-conditional). Everyone between
the limits is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError, UsageError
from .readings import Reading, Readings
from .spec import ModelSpec


@dataclass(frozen=True)
class Gate:
    """One threshold at one error rate."""

    threshold: float  # in the task's unit
    error: float  # the highest share of either kind that may be answered wrongly
    yes_above: float  # margin, in difficulties, above which the answer is yes
    no_below: float  # and below which it is no

    def answer(self, reading: Reading) -> str:
        """`yes`, `no` or `ask`."""
        margin = float(margins(reading.row, self.threshold)[0])
        return "yes" if margin > self.yes_above else "no" if margin < self.no_below else "ask"

    def to_json(self, reading: Reading) -> dict[str, Any]:
        """The answer with the probability it rests on."""
        p = round(reading.at_least(self.threshold), 4)
        return {"threshold": self.threshold, "error": self.error, "p": p, "answer": self.answer(reading)}


def open_gate(spec: ModelSpec, threshold: float, error: float) -> Gate:
    """The gate that a model file holds; raises UsageError naming what it holds, ModelError if it is not calibrated."""
    if spec.calibration is None:
        raise ModelError(
            f"model {spec.name} is not calibrated, so it has no gate; run: numclip calibrate MODEL --data DATA"
        )
    gates: dict[str, dict[str, list[float]]] = spec.calibration.get("gates", {})
    limits = gates.get(f"{threshold:g}", {}).get(f"{error:g}")
    if limits is None:
        errors = sorted({e for gate in gates.values() for e in gate})
        raise UsageError(
            f"expected --gate {', '.join(gates) or 'none'} with --gate-error {', '.join(errors) or 'none'}, got "
            f"{threshold:g} and {error:g}; choose from these or calibrate the model again"
        )
    return Gate(threshold, error, limits[0], limits[1])


def margins(readings: Readings, threshold: float) -> npt.NDArray[np.float64]:
    """[N] how far the value lies above the threshold, in units of the face's own difficulty."""
    return (readings.value.astype(np.float64) - threshold) / readings.difficulty()
