"""Measures on any set of faces: error, bias, coverage, interval width and gates, each with its 95 % interval.

The intervals of means are percentile bootstraps over faces. Those of a gate's rates are exact (Clopper and Pearson), because a
rate may count zero faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import UsageError
from ...runtime.contract.conformal_table import words_below
from ...runtime.contract.gate import DEFAULT_ERROR, Evidence, Gate, open_gate
from ...runtime.contract.gate_table import AROUND, NEAR
from ...runtime.contract.readings import Readings
from ...runtime.contract.spec import ModelSpec, TaskSpec
from ..exact import clopper_pearson

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
LEVEL = 0.9  # of the intervals in the tables by group
GATE = (18.0, DEFAULT_ERROR)  # threshold and error rate in the tables by group
RATES = (0.05, 0.1, 0.2)  # error rates that are measured, if the calibration can guarantee them
CLEARLY = AROUND  # this far above a threshold a gate should not need to ask: 28 for 18
RESAMPLES = 1000
SMALL = 100  # groups with fewer faces are marked


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def ends(self) -> list[float]:
        """Low and high, as in JSON."""
        return [self.low, self.high]


@dataclass(frozen=True)
class Rate:
    """A share of n faces with its exact 95 % interval; None for n = 0."""

    n: int
    share: Estimate | None

    @staticmethod
    def of(holds: Mask) -> Rate:
        """The share of true values in a mask [n]."""
        n = len(holds)
        if n == 0:
            return Rate(0, None)
        low, high = clopper_pearson(int(holds.sum()), n)
        return Rate(n, Estimate(round(float(holds.mean()), 4), round(low, 4), round(high, 4)))


@dataclass(frozen=True)
class GateRates:
    """A gate's error rates on both sides, and the share of people who are not asked."""

    false_accept: Rate  # `yes` to people within NEAR below the threshold
    false_reject: Rate  # `no` to people within NEAR at or above it
    accept: Rate  # `yes` to people clearly above it

    def by_name(self) -> dict[str, Rate]:
        """The rates by their names in JSON."""
        return {"false_accept": self.false_accept, "false_reject": self.false_reject, "accept": self.accept}

    def to_json(self) -> dict[str, object]:
        """Each rate as n, share and interval."""
        row: dict[str, object] = {}
        for name, rate in self.by_name().items():
            share = rate.share
            row |= {f"{name}_n": rate.n, name: share and share.value, f"{name}_95": share and share.ends}
        return row


@dataclass(frozen=True)
class GateRow:
    """One gate of the model, measured after a number of looks at each face."""

    threshold: float  # in the task's unit
    error: float  # the requested error rate
    looks: int
    rates: GateRates

    def to_json(self) -> dict[str, object]:
        """One flat object."""
        return {"threshold": self.threshold, "error": self.error, "looks": self.looks, **self.rates.to_json()}


@dataclass(frozen=True)
class Figures:
    """The figures of a set of faces; None for what cannot be measured."""

    n: int
    mae: Estimate  # in the task's unit (so are bias and width)
    bias: Estimate  # mean of estimated - true value
    coverage: Estimate | None  # share of faces inside their interval at LEVEL
    width: Estimate | None  # mean width of these intervals
    gate: GateRates | None  # of the gate at GATE

    @property
    def few(self) -> bool:
        """Whether there are so few faces that the figures are rough."""
        return self.n < SMALL

    def to_json(self) -> dict[str, object]:
        """One flat object: n, few, each figure and its interval, then the gate's rates."""
        row: dict[str, object] = {"n": self.n, "few": self.few}
        named = {"mae": self.mae, "bias": self.bias, "coverage": self.coverage, "width": self.width}
        for name, figure in named.items():
            row |= {name: figure and figure.value, f"{name}_95": figure and figure.ends}
        return row | ({} if self.gate is None else self.gate.to_json())


@dataclass(frozen=True)
class Widths:
    """The mean widths, in the task's unit, of three kinds of interval with the same coverage on the same faces."""

    ours: float
    one_for_all: float  # a single residual quantile for all faces
    words: float  # the central part of the bins' probabilities alone

    def to_json(self) -> dict[str, object]:
        """The widths by their names in a report."""
        return {"ours": self.ours, "global": self.one_for_all, "words": self.words}


@dataclass(frozen=True, eq=False)
class Judged:
    """A model's outputs for N faces, with the true values."""

    error: Floats  # [N] value - truth
    labels: Floats  # [N]
    covered: Floats | None = None  # [N] 1 where the interval at LEVEL holds the truth; None: not calibrated
    width: Floats | None = None  # [N]
    answers: npt.NDArray[np.str_] | None = None  # [N] of the gate at GATE; None: there is no such gate

    def take(self, chosen: Mask) -> Judged:
        """The faces selected by a mask [N]."""
        covered = None if self.covered is None else self.covered[chosen]
        width = None if self.width is None else self.width[chosen]
        said = None if self.answers is None else self.answers[chosen]
        return Judged(self.error[chosen], self.labels[chosen], covered, width, said)


def judge(readings: Readings, labels: Floats) -> Judged:
    """Combine N readings with N labels."""
    error = readings.value.astype(np.float64) - labels
    if readings.spec.calibration is None:
        return Judged(error, labels)
    low, high = readings.interval(LEVEL).astype(np.float64).T
    covered = ((labels >= low) & (labels <= high)).astype(np.float64)
    try:
        gate = open_gate(readings.spec, *GATE)
    except UsageError:
        return Judged(error, labels, covered, high - low)
    return Judged(error, labels, covered, high - low, gate_answers(gate, [readings]))


def measure(faces: Judged) -> Figures:
    """Measure; each mean gets its bootstrap interval from the same resamples of the N faces, N >= 1."""
    n = len(faces.error)
    draws = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    return Figures(
        n,
        _mean(np.abs(faces.error), draws),
        _mean(faces.error, draws),
        None if faces.covered is None else _mean(faces.covered, draws),
        None if faces.width is None else _mean(faces.width, draws),
        None if faces.answers is None else gate_rates(faces.answers, faces.labels, GATE[0]),
    )


def _mean(column: Floats, draws: npt.NDArray[np.int64]) -> Estimate:
    low, high = np.quantile(column[draws].mean(axis=1), (0.025, 0.975))
    return Estimate(round(float(column.mean()), 4), round(float(low), 4), round(float(high), 4))


def gate_answers(gate: Gate, looks: Sequence[Readings]) -> npt.NDArray[np.str_]:
    """The answers [N] (yes, no or ask) after as many looks at each face as there are readings."""
    each = np.array([gate.evidence(look) for look in looks])  # [looks, N, 3]
    return np.array([gate.answer(Evidence(*mean), len(looks)) for mean in each.mean(axis=0).tolist()])


def gate_rates(said: npt.NDArray[np.str_], labels: Floats, threshold: float) -> GateRates:
    """A gate's errors on both sides, and the share of people clearly above who were not asked."""
    below = (labels >= threshold - NEAR) & (labels < threshold)
    above = (labels >= threshold) & (labels < threshold + NEAR)
    clear = labels >= threshold + CLEARLY
    return GateRates(Rate.of(said[below] == "yes"), Rate.of(said[above] == "no"), Rate.of(said[clear] == "yes"))


def held_gates(spec: ModelSpec) -> list[Gate]:
    """The gates of a model file (or of its layer) at each of RATES that its calibration can guarantee."""
    held: list[Gate] = []
    for at in {} if spec.calibration is None else spec.calibration.gates:
        for rate in RATES:
            with suppress(UsageError):
                held.append(open_gate(spec, float(at), rate))
    return held


def gate_rows(looks: Sequence[Readings], labels: Floats) -> list[GateRow]:
    """The error rates of each gate of the model after as many looks at each of the N faces as there are readings."""
    return [
        GateRow(g.threshold, g.error, len(looks), gate_rates(gate_answers(g, looks), labels, g.threshold))
        for g in held_gates(looks[0].spec)
    ]


def widths_at_equal_coverage(readings: Readings, labels: Floats) -> Widths | None:
    """The mean width of our 90 % intervals and of two simpler kinds with the same coverage on these faces.

    The simpler kinds are one residual quantile for all faces, and the central part of the bins' probabilities alone, spread evenly
    within each bin. Both are fitted on these very faces, which favours them. None: not calibrated.
    """
    if readings.spec.calibration is None:
        return None
    task = readings.spec.task
    ours = judge(readings, labels)
    assert ours.covered is not None and ours.width is not None
    rank = round(float(ours.covered.sum())) - 1  # the smallest size that covers as many faces
    values, probabilities = readings.value.astype(np.float64), readings.probabilities.astype(np.float64)
    half = np.sort(np.abs(ours.error))[rank]
    everybody = (values + half).clip(task.low, task.high) - (values - half).clip(task.low, task.high)
    central = np.sort(np.abs(2 * words_below(probabilities, labels, task) - 1))[rank]
    ends = [_words_quantile(probabilities, (1 + sign * central) / 2, task) for sign in (-1, 1)]
    widths = (ours.width, everybody, ends[1] - ends[0])
    return Widths(*(round(float(width.mean()), 3) for width in widths))


def _words_quantile(probabilities: Floats, level: float, task: TaskSpec) -> Floats:
    """The value [N] below which the words have `level` of their probability."""
    edges = np.asarray(task.bin_edges)
    below = np.concatenate([np.zeros((len(probabilities), 1)), np.cumsum(probabilities, axis=1)], axis=1)
    return np.array([np.interp(level, row, edges) for row in below])
