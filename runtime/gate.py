"""The age gate: is this person at least so old? yes, no, or ask for a document; at an error rate that was measured.

For each threshold the model file holds two limits per error rate, fitted on held-out faces by `numclip calibrate`: `yes`
was said to at most that share of those below the threshold, `no` to at most that share of those at or above it (conformal
p-values of two classes; Vovk et al., "Algorithmic Learning in a Random World", label-conditional). Everyone between
the limits is asked.

Over a track the mean of the looks decides. Looks at one face err together: of their error's variance a share rho is
common to all of them, so n looks have the variance rho + (1 - rho) / n of one (the design effect; Kish, "Survey
Sampling", 1965), and the limits shrink by its root. rho is measured by `numclip calibrate`; without it it is 1.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError, UsageError
from .readings import Reading, Readings
from .spec import ModelSpec

TRACKS = 256  # remembered; the one not seen for longest is forgotten first


@dataclass(frozen=True)
class Answer:
    """What the gate says about one face."""

    threshold: float  # in the task's unit
    error: float  # the share of either kind that may be answered wrongly
    p: float  # the probability to be at least the threshold, by this look alone
    answer: str  # yes, no or ask
    looks: int  # that the answer rests on

    def to_json(self) -> dict[str, Any]:
        """The fields, rounded."""
        numbers = {"threshold": self.threshold, "error": self.error, "p": round(self.p, 4)}
        return {**numbers, "answer": self.answer, "looks": self.looks}


@dataclass(frozen=True)
class Gate:
    """One threshold at one error rate."""

    threshold: float  # in the task's unit
    error: float  # the highest share of either kind that may be answered wrongly
    yes_above: float  # margin, in difficulties, above which the answer is yes
    no_below: float  # and below which it is no
    look_correlation: float = 1.0  # rho: how much of the error's variance all looks at a face share

    def answer(self, margin: float, looks: int = 1) -> str:
        """`yes`, `no` or `ask`, for the mean margin of so many looks at one face."""
        shrink = math.sqrt(self.look_correlation + (1 - self.look_correlation) / looks)
        return "yes" if margin > self.yes_above * shrink else "no" if margin < self.no_below * shrink else "ask"


class TrackGate:
    """A gate that remembers the looks at each track."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._looks: OrderedDict[int, tuple[int, float]] = OrderedDict()  # track: looks, mean margin

    def look(self, reading: Reading, track_id: int | None) -> Answer:
        """The answer after one more look at a track; None stands for a face that has no track."""
        gate = self.gate
        margin, looks = float(margins(reading.row, gate.threshold)[0]), 1
        if track_id is not None:
            before, mean = self._looks.pop(track_id, (0, 0.0))
            looks = before + 1
            margin = mean + (margin - mean) / looks
            self._looks[track_id] = looks, margin
            if len(self._looks) > TRACKS:
                self._looks.popitem(last=False)
        p = reading.at_least(gate.threshold)
        return Answer(gate.threshold, gate.error, p, gate.answer(margin, looks), looks)


def open_gate(spec: ModelSpec, threshold: float, error: float) -> Gate:
    """The gate that a model file holds; raises UsageError naming what it holds, ModelError if it is not calibrated.

    Under a site's layer only the gates fitted on that site count: the error rate of the others was not measured there.
    """
    if spec.calibration is None:
        raise ModelError(
            f"model {spec.name} is not calibrated, so it has no gate; run: numclip calibrate MODEL --data DATA"
        )
    layers: list[dict[str, Any]] = spec.calibration.get("layers", [])
    gates: dict[str, dict[str, list[float]]] = (layers[-1] if layers else spec.calibration).get("gates", {})
    limits = gates.get(f"{threshold:g}", {}).get(f"{error:g}")
    if limits is None:
        held = "; ".join(f"{at} at {', '.join(rates)}" for at, rates in gates.items()) or "none"
        layer = f" in its layer {layers[-1]['name']}" if layers else ""
        raise UsageError(
            f"expected --gate and --gate-error that {spec.name} holds{layer} ({held}), got {threshold:g} at {error:g}; "
            "choose one of these, or calibrate on more faces on both sides of the threshold"
        )
    return Gate(threshold, error, limits[0], limits[1], float(spec.calibration.get("look_correlation", 1.0)))


def margins(readings: Readings, threshold: float) -> npt.NDArray[np.float64]:
    """[N] how far the value lies above the threshold, in units of the face's own difficulty."""
    return (readings.value.astype(np.float64) - threshold) / readings.difficulty()
