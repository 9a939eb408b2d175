"""What is measured on any set of faces: error, bias, coverage, width and gate, each with its 95 % interval.

The intervals of means are percentile bootstraps over faces; those of the gate's rates, which may count no face at all, are Wilson's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import UsageError
from ...runtime.contract.conformal_table import words_below
from ...runtime.contract.gate import Evidence, Gate, open_gate
from ...runtime.contract.readings import Readings
from ...runtime.contract.spec import ModelSpec, TaskSpec

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
LEVEL = 0.9  # of the intervals judged group by group
GATE = (18.0, 0.01)  # threshold and error rate judged group by group
CLEARLY = 7.0  # so far above a threshold a gate should not have to ask: 25 for 18
RESAMPLES = 1000
SMALL = 100  # groups with fewer faces are marked


@dataclass(frozen=True, eq=False)
class Judged:
    """A model's answers for N faces beside the truth, ready to be counted."""

    error: Floats  # [N] value - truth
    labels: Floats  # [N]
    covered: Floats | None  # [N] 1 where the interval at LEVEL holds the truth; None: not calibrated
    width: Floats | None  # [N]
    answers: npt.NDArray[np.str_] | None  # [N] of the gate at GATE; None: there is no such gate

    def take(self, chosen: Mask) -> Judged:
        """Those of a mask [N]."""
        names = ("error", "labels", "covered", "width", "answers")
        return replace(self, **{n: None if getattr(self, n) is None else getattr(self, n)[chosen] for n in names})


def judge(readings: Readings, labels: Floats) -> Judged:
    """Compare N readings with N labels."""
    error = readings.value.astype(np.float64) - labels
    if readings.spec.calibration is None:
        return Judged(error, labels, None, None, None)
    low, high = readings.interval(LEVEL).astype(np.float64).T
    covered = ((labels >= low) & (labels <= high)).astype(np.float64)
    try:
        gate = open_gate(readings.spec, *GATE)
    except UsageError:
        return Judged(error, labels, covered, high - low, None)
    return Judged(error, labels, covered, high - low, answers(gate, [readings]))


def measure(faces: Judged, rounds: int = RESAMPLES) -> dict[str, Any]:
    """n and each figure, beside it its 95 % interval; None where nothing can be measured."""
    columns = {"mae": np.abs(faces.error), "bias": faces.error, "coverage": faces.covered, "width": faces.width}
    draws = np.random.default_rng(0).integers(0, len(faces.error), (rounds, len(faces.error)))
    row: dict[str, Any] = {"n": len(faces.error), "few": len(faces.error) < SMALL}
    for name, column in columns.items():
        row |= _mean(name, column, draws)
    return row | ({} if faces.answers is None else rates(faces.answers, faces.labels, GATE[0]))


def answers(gate: Gate, looks: Sequence[Readings]) -> npt.NDArray[np.str_]:
    """[N] yes, no or ask, after as many looks at each of the N faces as there are readings."""
    each = np.array([gate.evidence(look) for look in looks])  # [looks, N, 3]
    return np.array([gate.answer(Evidence(*mean), len(looks)) for mean in each.mean(axis=0).tolist()])


def rates(said: npt.NDArray[np.str_], labels: Floats, threshold: float) -> dict[str, Any]:
    """A gate's errors of both kinds, and the share of those clearly above who were not asked."""
    below, above, clear = labels < threshold, labels >= threshold, labels >= threshold + CLEARLY
    return {
        **_share("false_accept", said[below] == "yes"),
        **_share("false_reject", said[above] == "no"),
        **_share("accept", said[clear] == "yes"),
    }


def held_gates(spec: ModelSpec) -> list[Gate]:
    """Every gate that a model file (or the layer on it) holds."""
    calibration = spec.calibration or {}
    held = (calibration["layers"][-1] if calibration.get("layers") else calibration).get("gates", {})
    return [open_gate(spec, float(at), float(rate)) for at, limits in held.items() for rate in limits]


def gate_rows(looks: Sequence[Readings], labels: Floats) -> list[dict[str, Any]]:
    """How often each gate of the model errs, after as many looks at each of the N faces as there are readings."""
    rows: list[dict[str, Any]] = []
    for gate in held_gates(looks[0].spec):
        fields = {"threshold": gate.threshold, "error": gate.error, "looks": len(looks)}
        rows.append(fields | rates(answers(gate, looks), labels, gate.threshold))
    return rows


def _mean(name: str, column: Floats | None, draws: Any) -> dict[str, Any]:
    if column is None:
        return {name: None, f"{name}_95": None}
    low, high = np.quantile(column[draws].mean(axis=1), (0.025, 0.975))
    return {name: round(float(column.mean()), 4), f"{name}_95": [round(float(low), 4), round(float(high), 4)]}


def _share(name: str, holds: Mask) -> dict[str, Any]:
    """n, share and its 95 % interval (Wilson, 1927)."""
    n = len(holds)
    if n == 0:
        return {f"{name}_n": 0, name: None, f"{name}_95": None}
    z, share = 1.96, float(holds.mean())
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    ends = [round(max(0.0, min(1.0, (middle + sign * half) / (1 + z * z / n))), 4) for sign in (-1, 1)]
    return {f"{name}_n": n, name: round(share, 4), f"{name}_95": ends}


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
    central = np.sort(np.abs(2 * words_below(probabilities, labels, task) - 1))[rank]
    ends = [_words_quantile(probabilities, (1 + sign * central) / 2, task) for sign in (-1, 1)]
    widths = {"ours": ours.width, "global": everybody, "words": ends[1] - ends[0]}
    return {name: round(float(width.mean()), 3) for name, width in widths.items()}


def _words_quantile(probabilities: Floats, level: float, task: TaskSpec) -> Floats:
    """[N] the number that the words leave `level` of their probability below."""
    edges = np.asarray(task.bin_edges)
    below = np.concatenate([np.zeros((len(probabilities), 1)), np.cumsum(probabilities, axis=1)], axis=1)
    return np.array([np.interp(level, row, edges) for row in below])
