"""What is measured on any set of faces: error, bias, coverage, width and gate, each with its bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..runtime.gate import Gate, margins, open_gate
from ..runtime.readings import Readings
from ..runtime.spec import TaskSpec

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
LEVEL = 0.9  # of the intervals judged group by group
GATE = (18.0, 0.01)  # threshold and error rate judged group by group
RESAMPLES = 1000
SMALL = 100  # groups with fewer faces are marked


@dataclass(frozen=True, eq=False)
class Judged:
    """A model's answers for N faces beside the truth, ready to be counted."""

    error: Floats  # [N] value - truth
    labels: Floats  # [N]
    covered: Floats | None  # [N] 1 where the interval at LEVEL holds the truth; None: not calibrated
    width: Floats | None  # [N]
    said_yes: Floats | None  # [N] 1 where the gate at GATE said yes; None: there is no such gate
    said_no: Floats | None

    def take(self, chosen: Mask) -> Judged:
        """Those of a mask [N]."""
        names = ("error", "labels", "covered", "width", "said_yes", "said_no")
        return replace(self, **{n: None if getattr(self, n) is None else getattr(self, n)[chosen] for n in names})


def judge(readings: Readings, labels: Floats) -> Judged:
    """Compare N readings with N labels."""
    error = readings.value.astype(np.float64) - labels
    if readings.spec.calibration is None:
        return Judged(error, labels, None, None, None, None)
    low, high = readings.interval(LEVEL).astype(np.float64).T
    covered = ((labels >= low) & (labels <= high)).astype(np.float64)
    gate = gate_of(readings)
    if gate is None:
        return Judged(error, labels, covered, high - low, None, None)
    answers = np.array([gate.answer(float(m)) for m in margins(readings, gate.threshold)])
    said = ((answers == word).astype(np.float64) for word in ("yes", "no"))
    return Judged(error, labels, covered, high - low, *said)


def gate_of(readings: Readings) -> Gate | None:
    """The gate that is judged, where the model holds it."""
    try:
        return open_gate(readings.spec, *GATE)
    except UsageError:
        return None


def measure(faces: Judged, rounds: int = RESAMPLES) -> dict[str, Any]:
    """n and each figure; beside it its 95 % bootstrap interval (percentile; None where nothing can be measured)."""
    columns = {"mae": np.abs(faces.error), "bias": faces.error, "coverage": faces.covered, "width": faces.width}
    draws = np.random.default_rng(0).integers(0, len(faces.error), (rounds, len(faces.error)))
    row: dict[str, Any] = {"n": len(faces.error), "few": len(faces.error) < SMALL}
    for name, column in columns.items():
        row |= _figure(name, column, draws)
    if faces.said_yes is not None and faces.said_no is not None:
        minor, adult = faces.labels < GATE[0], faces.labels >= GATE[0]
        for name, said, chosen in (
            ("false_accept", faces.said_yes, minor),
            ("false_reject", faces.said_no, adult),
            ("accept", faces.said_yes, adult),
        ):
            n = int(chosen.sum())
            part = np.random.default_rng(0).integers(0, max(n, 1), (rounds, n)) if n else None
            row |= {f"{name}_n": n, **_figure(name, said[chosen] if n else None, part)}
    return row


def _figure(name: str, column: Floats | None, draws: Any) -> dict[str, Any]:
    if column is None:
        return {name: None, f"{name}_95": None}
    low, high = np.quantile(column[draws].mean(axis=1), (0.025, 0.975))
    return {name: round(float(column.mean()), 4), f"{name}_95": [round(float(low), 4), round(float(high), 4)]}


def widths_at_equal_coverage(readings: Readings, labels: Floats) -> dict[str, float] | None:
    """Mean 90 % width of our intervals and of two simpler kinds, each given the share of these faces that ours cover.

    `global`: one residual quantile for everybody. `words`: the central part of the bins' probabilities alone, evenly
    spread within each bin. Both are set on these faces themselves, which favours them. None: not calibrated.
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
    central = np.sort(np.abs(2 * _words_cdf(probabilities, labels, task) - 1))[rank]
    ends = [_words_quantile(probabilities, (1 + sign * central) / 2, task) for sign in (-1, 1)]
    widths = {"ours": ours.width, "global": everybody, "words": ends[1] - ends[0]}
    return {name: round(float(width.mean()), 3) for name, width in widths.items()}


def _words_cdf(probabilities: Floats, at: Floats, task: TaskSpec) -> Floats:
    """[N] probability that the words [N, K] leave below `at` [N]."""
    edges = np.asarray(task.bin_edges)
    below = np.concatenate([np.zeros((len(at), 1)), np.cumsum(probabilities, axis=1)], axis=1)  # [N, K + 1] at edges
    return np.array([np.interp(x, edges, row) for x, row in zip(at, below, strict=True)])


def _words_quantile(probabilities: Floats, level: float, task: TaskSpec) -> Floats:
    """[N] the number that the words leave `level` of their probability below."""
    edges = np.asarray(task.bin_edges)
    below = np.concatenate([np.zeros((len(probabilities), 1)), np.cumsum(probabilities, axis=1)], axis=1)
    return np.array([np.interp(level, row, edges) for row in below])
