"""The age gate: is this person at least so old? yes, no, or ask for a document; at an error rate that was measured.

The evidence is the log odds that the words give to the threshold. For each threshold the model file holds two limits per
error rate, fitted on held-out faces by `numclip calibrate`: `yes` was said to at most that share of those below the
threshold, `no` to at most that share of those at or above it (conformal p-values of two classes; Vovk et al.,
"Algorithmic Learning in a Random World", label-conditional). Everyone between the limits is asked. Where a face has lost
detail the limits move apart, as the intervals widen.

Over a track the mean of the looks' evidence decides. Looks at one face err together: a share rho of their error's
variance is common to all of them, so the mean of n looks has the variance rho + (1 - rho) / n of one, as
n / (1 + (n - 1) rho) independent looks would (the design effect; Kish, "Survey Sampling", 1965), and the limits move
together by its root. rho is measured by `numclip calibrate`; without it it is 1, and more looks promise nothing more.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...errors import ModelError, UsageError
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
    yes_above: float  # log odds above which the answer is yes
    no_below: float  # and below which it is no
    look_correlation: float = 1.0  # rho: how much of the error's variance all looks at a face share
    buffer: float = 0.0  # in the task's unit; `yes` asks for so much more than the threshold

    def answer(self, evidence: Evidence, looks: int = 1) -> str:
        """`yes`, `no` or `ask`, for the mean evidence of so many looks at one face."""
        middle, half = (self.yes_above + self.no_below) / 2, max(0.0, self.yes_above - self.no_below) / 2
        half *= evidence.widening * math.sqrt(self.look_correlation + (1 - self.look_correlation) / looks)
        return "yes" if evidence.yes > middle + half else "no" if evidence.no < middle - half else "ask"

    def evidence(self, readings: Readings) -> list[Evidence]:
        """What each of N readings says."""
        no = readings.log_odds(self.threshold)
        yes = readings.log_odds(self.threshold + self.buffer) if self.buffer else no
        return list(map(Evidence, yes.tolist(), no.tolist(), readings.widening.tolist()))


class Evidence(NamedTuple):
    """One look at a face, or the mean of several."""

    yes: float  # log odds to be at least the threshold plus the buffer
    no: float  # log odds to be at least the threshold
    widening: float = 1.0  # for lost detail


class TrackGate:
    """A gate that remembers the looks at each track."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._tracks: OrderedDict[int, tuple[int, Evidence]] = OrderedDict()  # looks, and their mean
        self._batch: tuple[Readings | None, list[Evidence]] = (None, [])  # the last one seen: faces come one by one

    def look(self, reading: Reading, track_id: int | None) -> Answer:
        """The answer after one more look at a track; None stands for a face that has no track."""
        gate, looks = self.gate, 1
        if self._batch[0] is not reading.rows:
            self._batch = reading.rows, gate.evidence(reading.rows)
        evidence = self._batch[1][reading.index]
        if track_id is not None:
            before, mean = self._tracks.pop(track_id, (0, evidence))
            looks = before + 1
            yes, no, widening = (m + (e - m) / looks for m, e in zip(mean, evidence))
            evidence = Evidence(yes, no, widening)
            self._tracks[track_id] = looks, evidence
            if len(self._tracks) > TRACKS:
                self._tracks.popitem(last=False)
        said = gate.answer(evidence, looks)
        return Answer(gate.threshold, gate.error, reading.at_least(gate.threshold), said, looks)


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
    gates, layer = spec.calibration.gates, spec.calibration.layer
    limits = gates.get(f"{threshold:g}", {}).get(f"{error:g}")
    if limits is None:
        held = "; ".join(f"{at} at {', '.join(rates)}" for at, rates in gates.items()) or "none"
        where = f" in its layer {layer.name}" if layer else ""
        raise UsageError(
            f"expected --gate and --gate-error that {spec.name} holds{where} ({held}), got {threshold:g} at {error:g}; "
            "choose one of these, or calibrate on more faces on both sides of the threshold"
        )
    return Gate(threshold, error, *limits, spec.calibration.look_correlation, buffer)
