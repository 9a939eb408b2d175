"""The age gate: is this person at least so old? It answers yes, no, or ask (for a document), with a measured error rate.

The evidence is the log odds, from the words' probabilities, that the person is at least as old as the threshold. `numclip
calibrate` counts how many people within four years below the threshold exceed each limit on the evidence (`gate_table.py`).
For an error rate of 10 %, `yes` takes the lowest limit that at most 10 % of them exceed, with 95 % confidence. `no` is chosen
in the same way from people within four years above the threshold. People between the two limits get `ask`, and so does every
face whose reading was rejected (too small, blurred, in profile).

The limit for `yes` is set in one of three ways: by an error rate; by a challenge age (`yes` only to people whose estimated
age is at least the challenge age); or by a cost (one wrong yes costs as much as N people, from the threshold to ten years
above, who are asked). Each is monotone. If a face has lost detail or is unfamiliar, the limits move
away from the center, as its interval widens.

For a track, the mean evidence of its looks decides; a look is one model call on the face. The errors of looks at one face are
correlated: a share rho of their variance is common to all of them. The mean of n looks has the variance rho + (1 - rho) / n of
a single look, like n / (1 + (n - 1) rho) independent looks (the design effect; Kish, "Survey Sampling", 1965), and the
limits move towards the center by the square root of that. `numclip calibrate` measures rho; without a measurement it is 1, and
more looks do not move the limits. A challenge age stays the same for any number of looks.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from ...errors import ModelError, UsageError
from .gate_table import NEAR, GateTable, people_needed
from .readings import Reading, Readings
from .spec import ModelSpec

DEFAULT_ERROR = 0.1
SMALLEST_ERROR = 1e-6  # to guarantee it takes 3 million people near the threshold
TRACKS = 256  # number of tracks that are kept; the one unseen for longest is dropped first


@dataclass(frozen=True)
class Answer:
    """The gate's answer for one face."""

    threshold: float  # in the task's unit
    error: float  # upper bound on the share of people within NEAR below the threshold who get yes
    p: float | None  # the probability of being at least the threshold, from this look alone; None: no accepted look
    answer: str  # yes, no or ask
    looks: int  # number of looks behind the answer

    def to_json(self) -> dict[str, object]:
        """The fields, rounded."""
        p = None if self.p is None else round(self.p, 4)
        return {
            "threshold": self.threshold,
            "error": self.error,
            "p": p,
            "answer": self.answer,
            "looks": self.looks,
        }


@dataclass(frozen=True)
class Gate:
    """One threshold at one setting."""

    threshold: float  # in the task's unit
    error: float  # upper bound on the share of people within NEAR below the threshold who get yes
    yes_above: float  # log odds above which the answer is yes
    no_below: float  # log odds below which the answer is no
    center: float = 0.0  # log odds that no limit moves across
    look_correlation: float = 1.0  # rho: the share of the error's variance that all looks at a face have in common
    challenge: float | None = None  # in the task's unit: yes only to values of at least this; replaces yes_above

    def answer(self, evidence: Evidence, looks: int = 1) -> str:
        """`yes`, `no` or `ask`, for the mean evidence of `looks` looks at one face."""
        away = evidence.widening * math.sqrt(self.look_correlation + (1 - self.look_correlation) / looks)
        if self.challenge is None:
            yes = evidence.yes > self.center + max(0.0, self.yes_above - self.center) * away
        else:
            yes = evidence.yes >= self.threshold + (self.challenge - self.threshold) * max(1.0, evidence.widening)
        no = evidence.no < self.center - max(0.0, self.center - self.no_below) * away
        return "ask" if yes == no else "yes" if yes else "no"

    def evidence(self, readings: Readings) -> list[Evidence]:
        """The evidence of each of N readings."""
        no = readings.log_odds(self.threshold)
        yes = no if self.challenge is None else readings.value
        return list(map(Evidence, yes.tolist(), no.tolist(), readings.widening.tolist()))

    @property
    def unseen(self) -> Answer:
        """The answer for a face without an accepted reading."""
        return Answer(self.threshold, self.error, None, "ask", 0)


class Evidence(NamedTuple):
    """The evidence of one look at a face, or the mean of several looks."""

    yes: float  # log odds of being at least the threshold; with a challenge age, the estimated value
    no: float  # log odds of being at least the threshold
    widening: float = 1.0  # factor for lost detail and unfamiliar faces


class TrackGate:
    """A gate that accumulates the looks at each track."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._tracks: OrderedDict[int, tuple[int, Evidence]] = OrderedDict()  # number of looks, and their mean
        self._batch: tuple[Readings | None, list[Evidence]] = (None, [])  # the last batch: its faces arrive one by one

    def look(self, reading: Reading, track_id: int | None) -> Answer:
        """The answer after one more look at a track; track_id None: a face without a track."""
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


def open_gate(
    spec: ModelSpec,
    threshold: float,
    error: float = DEFAULT_ERROR,
    *,
    challenge: float | None = None,
    cost: float | None = None,
) -> Gate:
    """The gate of a model file.

    error: highest accepted share of people near the threshold, on either side, who get a wrong answer. challenge or cost (not
    both) sets the limit for `yes` instead; `error` then applies to `no` only. Under a site's layer only gates fitted on that
    site can be used: the error rates of the others were not measured there.

    Raises UsageError if the calibration cannot guarantee what is asked, ModelError if the model is not calibrated.
    """
    if spec.calibration is None:
        raise ModelError(
            f"model {spec.name} is not calibrated and so has no gate; run: numclip calibrate MODEL --data DATA"
        )
    if challenge is not None and cost is not None:
        raise UsageError("expected a challenge age or a cost, got both; give only one")
    if not SMALLEST_ERROR <= error < 1:
        raise UsageError(
            f"expected --gate-error of at least {SMALLEST_ERROR:f} and below 1, such as {DEFAULT_ERROR:g}, got {error:g}"
        )
    gates, layer = spec.calibration.gates, spec.calibration.layer
    where = f"{spec.name} in its layer {layer.name}" if layer else spec.name
    table = gates.get(f"{threshold:g}")
    if table is None:
        raise UsageError(
            f"expected --gate to be a threshold that {where} is calibrated for ({', '.join(gates) or 'none'}), got "
            f"{threshold:g}; choose one of these, or calibrate on faces within {NEAR:g} {spec.task.unit} of it on both "
            "sides"
        )
    no = _last(table, "no", error, threshold, where, spec.task.unit)
    if challenge is not None:
        yes, error = math.inf, _challenge_rate(table, threshold, challenge)
    elif cost is not None:
        yes, error = _at_cost(table, cost)
    else:
        yes = _last(table, "yes", error, threshold, where, spec.task.unit)
    rho = spec.calibration.look_correlation
    return Gate(threshold, error, yes, no, table.center, rho, challenge)


def _last(table: GateTable, kind: str, error: float, threshold: float, where: str, unit: str) -> float:
    """The limit of the last step with at most this error rate; raises UsageError if there is none."""
    steps, people = (table.yes, table.below) if kind == "yes" else (table.no, table.above)
    kept = [step.limit for step in steps if step.rate <= error]
    if not kept:
        side = "below" if kind == "yes" else "above"
        raise UsageError(
            f"expected an error rate that the calibration of {where} can guarantee at {threshold:g} with its {people} "
            f"people within {NEAR:g} {unit} {side}, got {error:g}, which needs {people_needed(error)} people; calibrate on more faces, "
            f"or raise --gate-error to at least {math.ceil(1000 * steps[0].rate) / 1000:.3f}"
        )
    return kept[-1]


def _challenge_rate(table: GateTable, threshold: float, challenge: float) -> float:
    """The upper bound on the share of people near below the threshold whose estimate reaches the challenge age."""
    if not threshold <= challenge < math.inf:
        raise UsageError(f"expected --challenge to be at least {threshold:g}, the gate's age, got {challenge:g}")
    return next(step.rate for step in table.challenge if step.limit < challenge)


def _at_cost(table: GateTable, cost: float) -> tuple[float, float]:
    """The limit with the lowest cost, and its error rate; one wrong yes costs as much as `cost` people who are asked."""
    if not 0 < cost < math.inf:
        raise UsageError(f"expected --cost above 0, got {cost:g}")
    best = min(table.yes, key=lambda step: (cost * step.rate + step.asked, step.rate))
    return best.limit, best.rate
