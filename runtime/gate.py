"""The age gate: is this person at least so old? yes, no, or ask for a document; at an error rate that was measured.

The evidence is the probability to be at least the threshold, which `Readings.at_least` gives. For each threshold the model
file holds two limits per error rate, fitted on held-out faces by `numclip calibrate`: `yes` was said to at most that share
of those below the threshold, `no` to at most that share of those at or above it (conformal p-values of two classes; Vovk
et al., "Algorithmic Learning in a Random World", label-conditional). Everyone between the limits is asked.

Over a track the looks' evidence is averaged as normal scores. Looks at one face err together: a share rho of their
error's variance is common to all of them, so the mean of n looks has the variance rho + (1 - rho) / n of one, as
n / (1 + (n - 1) rho) independent looks would (the design effect; Kish, "Survey Sampling", 1965), and the limits shrink
by its root. rho is measured by `numclip calibrate`; without it it is 1, and more looks then promise nothing more.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from ..errors import ModelError, UsageError
from .readings import Reading
from .spec import ModelSpec

TRACKS = 256  # remembered; the one not seen for longest is forgotten first
NORMAL = NormalDist()


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
    yes_above: float  # probability above which the answer is yes
    no_below: float  # and below which it is no
    look_correlation: float = 1.0  # rho: how much of the error's variance all looks at a face share
    buffer: float = 0.0  # in the task's unit; `yes` asks for so much more than the threshold

    def answer(self, p_yes: float, p_no: float) -> str:
        """`yes`, `no` or `ask` for one look: the probabilities to be at least threshold + buffer, and threshold."""
        return self.weighed(score(p_yes), score(p_no), 1)

    def weighed(self, yes_score: float, no_score: float, looks: int) -> str:
        """The same for the mean normal scores of so many looks at one face."""
        shrink = math.sqrt(self.look_correlation + (1 - self.look_correlation) / looks)
        yes_above, no_below = self._limits
        return "yes" if yes_score > yes_above * shrink else "no" if no_score < no_below * shrink else "ask"

    @functools.cached_property
    def _limits(self) -> tuple[float, float]:
        return score(self.yes_above), score(self.no_below)


class TrackGate:
    """A gate that remembers the looks at each track."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._looks: OrderedDict[int, tuple[int, float, float]] = OrderedDict()  # track: looks, mean scores

    def look(self, reading: Reading, track_id: int | None) -> Answer:
        """The answer after one more look at a track; None stands for a face that has no track."""
        gate = self.gate
        p = reading.at_least(gate.threshold)
        looks, no = 1, score(p)
        yes = score(reading.at_least(gate.threshold + gate.buffer)) if gate.buffer else no
        if track_id is not None:
            before, mean_yes, mean_no = self._looks.pop(track_id, (0, 0.0, 0.0))
            looks = before + 1
            yes, no = mean_yes + (yes - mean_yes) / looks, mean_no + (no - mean_no) / looks
            self._looks[track_id] = looks, yes, no
            if len(self._looks) > TRACKS:
                self._looks.popitem(last=False)
        return Answer(gate.threshold, gate.error, p, gate.weighed(yes, no, looks), looks)


def score(p: float) -> float:
    """The normal score of a probability; the table is never surer than its outermost levels, so the ends are far off."""
    return NORMAL.inv_cdf(min(max(p, 1e-6), 1 - 1e-6))


def open_gate(spec: ModelSpec, threshold: float, error: float, buffer: float = 0.0) -> Gate:
    """The gate that a model file holds; raises UsageError naming what it holds, ModelError if it is not calibrated.

    buffer: `yes` is said only to those who pass the same limit at threshold + buffer, so its error can only fall.
    Under a site's layer only the gates fitted on that site count: the error rate of the others was not measured there.
    """
    if spec.calibration is None:
        raise ModelError(
            f"model {spec.name} is not calibrated, so it has no gate; run: numclip calibrate MODEL --data DATA"
        )
    if not 0 <= buffer < math.inf:
        raise UsageError(f"expected --buffer of 0 or more {spec.task.unit}, got {buffer:g}")
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
    if not all(0 <= limit <= 1 for limit in limits):
        raise ModelError(f"spec field calibration.gates: expected probabilities, got {limits}; calibrate again")
    return Gate(threshold, error, limits[0], limits[1], float(spec.calibration.get("look_correlation", 1.0)), buffer)
