"""The age gate: is this person at least so old? yes, no, or ask for a document; at an error rate that was shown near the threshold.

The evidence is the log odds that the words give to the threshold. `numclip calibrate` counts how many people within four
years below the threshold pass each limit (`gate_table.py`): `yes` at an error rate of 10 % takes the lowest limit that at
most 10 % of them pass, with 95 % confidence. `no` is the same for people within four years above. Everyone between the
limits is asked, and so is every face that the model does not believe its look at.

`yes` has one dial, set in one of three ways, and each is monotone: an error rate; a challenge age (`yes` to those who are
read as so old or older); a cost (one wrong yes is as bad as so many people from the threshold to ten years above who are
asked). Where a face has lost detail the limits move away from the center, as the intervals widen.

Over a track the mean of the looks' evidence decides. Looks at one face err together: a share rho of their error's
variance is common to all of them, so the mean of n looks has the variance rho + (1 - rho) / n of one, as
n / (1 + (n - 1) rho) independent looks would (the design effect; Kish, "Survey Sampling", 1965), and the limits move
towards the center by its root. rho is measured by `numclip calibrate`; without it it is 1, and more looks promise nothing
more. A challenge age stays where it is, however many looks there are.
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
TRACKS = 256  # remembered; the one not seen for longest is forgotten first


@dataclass(frozen=True)
class Answer:
    """What the gate says about one face."""

    threshold: float  # in the task's unit
    error: float  # bound on the share of people within NEAR below the threshold who get yes
    p: float | None  # the probability to be at least the threshold, by this look alone; None: no look was believed
    answer: str  # yes, no or ask
    looks: int  # that the answer rests on

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
    """One threshold at one setting of the dial."""

    threshold: float  # in the task's unit
    error: float  # bound on the share of people within NEAR below the threshold who get yes
    yes_above: float  # log odds above which the answer is yes
    no_below: float  # and below which it is no
    center: float = 0.0  # log odds that no limit moves across
    look_correlation: float = 1.0  # rho: how much of the error's variance all looks at a face share
    challenge: float | None = None  # in the task's unit: yes to those read as so old or older, whatever yes_above is

    def answer(self, evidence: Evidence, looks: int = 1) -> str:
        """`yes`, `no` or `ask`, for the mean evidence of so many looks at one face."""
        away = evidence.widening * math.sqrt(self.look_correlation + (1 - self.look_correlation) / looks)
        if self.challenge is None:
            yes = evidence.yes > self.center + max(0.0, self.yes_above - self.center) * away
        else:
            yes = evidence.yes >= self.threshold + (self.challenge - self.threshold) * max(1.0, evidence.widening)
        no = evidence.no < self.center - max(0.0, self.center - self.no_below) * away
        return "ask" if yes == no else "yes" if yes else "no"

    def evidence(self, readings: Readings) -> list[Evidence]:
        """What each of N readings says."""
        no = readings.log_odds(self.threshold)
        yes = no if self.challenge is None else readings.value
        return list(map(Evidence, yes.tolist(), no.tolist(), readings.widening.tolist()))

    @property
    def unseen(self) -> Answer:
        """The answer where no look was believed."""
        return Answer(self.threshold, self.error, None, "ask", 0)


class Evidence(NamedTuple):
    """One look at a face, or the mean of several."""

    yes: float  # log odds to be at least the threshold; under a challenge age the value
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


def open_gate(
    spec: ModelSpec,
    threshold: float,
    error: float = DEFAULT_ERROR,
    *,
    challenge: float | None = None,
    cost: float | None = None,
) -> Gate:
    """The gate that a model file holds; raises UsageError where it cannot show what is asked, ModelError without calibration.

    error: highest share of the people near the threshold, of either kind, who may be answered wrongly. challenge or cost,
    at most one of them, sets `yes` in its place; `error` is then that of `no` alone. Under a site's layer only the tables
    fitted on that site count: the error rate of the others was not measured there.
    """
    if spec.calibration is None:
        raise ModelError(
            f"model {spec.name} is not calibrated, so it has no gate; run: numclip calibrate MODEL --data DATA"
        )
    if challenge is not None and cost is not None:
        raise UsageError("expected a challenge age or a cost, got both; give one of them")
    if not 0 < error < 1:
        raise UsageError(f"expected --gate-error between 0 and 1, such as {DEFAULT_ERROR:g}, got {error:g}")
    gates, layer = spec.calibration.gates, spec.calibration.layer
    where = f"{spec.name} in its layer {layer.name}" if layer else spec.name
    table = gates.get(f"{threshold:g}")
    if table is None:
        raise UsageError(
            f"expected --gate at a threshold that {where} holds ({', '.join(gates) or 'none'}), got {threshold:g}; "
            f"choose one of these, or calibrate on faces within {NEAR:g} {spec.task.unit} of it on both sides"
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
    """The limit of the last step that keeps the rate; raises UsageError where none does."""
    steps, people = (table.yes, table.below) if kind == "yes" else (table.no, table.above)
    kept = [step.limit for step in steps if step.rate <= error]
    if not kept:
        side = "below" if kind == "yes" else "above"
        raise UsageError(
            f"expected an error rate that {where} can show at {threshold:g} ({steps[0].rate:.3f} or more with its "
            f"{people} people within {NEAR:g} {unit} {side}), got {error:g}; that needs {people_needed(error)} of them: "
            "calibrate on more faces, or ask for a higher rate"
        )
    return kept[-1]


def _challenge_rate(table: GateTable, threshold: float, challenge: float) -> float:
    """The bound on the share of those near below who are read as the challenge age or older."""
    if not threshold <= challenge < math.inf:
        raise UsageError(f"expected --challenge of {threshold:g}, the gate's age, or more, got {challenge:g}")
    return next(step.rate for step in table.challenge if step.limit < challenge)


def _at_cost(table: GateTable, cost: float) -> tuple[float, float]:
    """Limit and rate that cost least, where one wrong yes costs as much as `cost` people who are asked."""
    if not 0 < cost < math.inf:
        raise UsageError(f"expected --cost above 0, got {cost:g}")
    best = min(table.yes, key=lambda step: (cost * step.rate + step.asked, step.rate))
    return best.limit, best.rate
