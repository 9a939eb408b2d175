"""The difference between two files of one model on the same faces, in the task's unit, and the limits for it.

Every step that writes a model file measures it here first, and `numclip verify` measures existing files. The graphs' outputs are
compared without calibration, which could hide or add a difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ...runtime.contract.measured import ParityRow
from ...runtime.contract.spec import ModelSpec
from ...runtime.contract.task import TaskSpec
from ...runtime.sessions.session import Outputs
from ..data.crop_cache import DEFAULT_DETECTOR, Crops, face_crops
from ..data.datasets import Dataset
from .distance import distance_to

AGE_RANGE_YEARS = 120.0
PROOF_FACES = 256  # number of faces that an export is checked on
# Largest differences of each precision from its reference, in years; for other tasks in proportion to the task's range.
LIMITS: dict[str, dict[str, float]] = {
    "fp32": {"max": 0.02},
    "fp16": {"mean": 0.1, "p99": 0.5},
    "int8": {"mean": 0.5, "mae_change": 0.05},
}


@dataclass(frozen=True, eq=False)
class ProofFaces:
    """The faces on which files are compared."""

    crops: npt.NDArray[np.uint8]  # [N, S, S, 3] RGB
    labels: npt.NDArray[np.float64]  # [N, 2] lowest and highest of each, in the task's unit, equal where exact
    said: str  # their description for the parity table


@dataclass(frozen=True)
class Difference:
    """The difference of one file from its reference on the same N faces; values in the task's unit."""

    mean: float  # of |difference|
    p99: float
    max: float
    mae: float  # of the file, against the labels
    mae_change: float  # the file's MAE minus the reference's
    cosine: float | None  # the lowest cosine similarity of the two embeddings of a face; None without an embedding
    not_finite: int  # NaN and Inf among the file's outputs
    n: int

    def row(self, task: TaskSpec, faces: str, against: str) -> ParityRow:
        """The row of the spec's parity table. A figure that is not finite is None, because JSON has no such number."""
        names = ("mean", "p99", "max", "mae", "mae_change", "cosine")
        found: dict[str, float | None] = {k: getattr(self, k) for k in names}
        figures = {k: v if v is not None and np.isfinite(v) else None for k, v in found.items()}
        return ParityRow(task.unit, self.n, faces, **figures, against=against, not_finite=self.not_finite)


def proof_faces(
    data: Sequence[Dataset],
    spec: ModelSpec,
    num_faces: int,
    split: str | None = None,
    detector: str = DEFAULT_DETECTOR,
) -> ProofFaces:
    """This many faces, spread over one split of all data sets; raises DataError.

    split: None takes `val` in a data set that has it, else all its faces.
    """
    chosen = [split or d.split_or_all("val") for d in data]
    found = [face_crops(d.select(name), spec.crop, detector) for d, name in zip(data, chosen, strict=True)]
    said = ", ".join(f"{name} of {d.short_name}" for d, name in zip(data, chosen, strict=True))
    return spread([(f.crops, f.ends) for f in found], said, num_faces)


def spread(parts: Sequence[tuple[Crops, npt.NDArray[np.float64]]], said: str, num_faces: int) -> ProofFaces:
    """This many faces, taken evenly from all parts: each part is crops [N, S, S, 3] and labels [N, 2]."""
    total = sum(len(labels) for _, labels in parts)
    at = np.linspace(0, total - 1, min(num_faces, total)).round().astype(int)  # files may be sorted by age
    crops: list[npt.NDArray[np.uint8]] = []
    start = 0
    for part, labels in parts:
        mine = at[(at >= start) & (at < start + len(labels))] - start
        crops.append(np.array(part[mine]))
        start += len(labels)
    return ProofFaces(np.concatenate(crops), np.concatenate([labels for _, labels in parts])[at], said)


def difference(got: Outputs, reference: Outputs, labels: npt.NDArray[np.float64]) -> Difference:
    """The difference of `got` from `reference`, both for the faces of `labels` ([N], or the ends of bands [N, 2])."""
    apart = np.abs(got.value.astype(np.float64) - reference.value)
    cosine = None
    if got.embedding.shape[1]:
        products = (got.embedding.astype(np.float64) * reference.embedding).sum(axis=1)
        lengths = np.linalg.norm(got.embedding, axis=1) * np.linalg.norm(reference.embedding, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = float((products / lengths).min())
    mae, mae_before = (float(distance_to(o.value.astype(np.float64), labels).mean()) for o in (got, reference))
    return Difference(
        mean=float(apart.mean()),
        p99=float(np.quantile(apart, 0.99)) if np.isfinite(apart).all() else float("nan"),
        max=float(apart.max()),
        mae=mae,
        mae_change=mae - mae_before,
        cosine=cosine,
        not_finite=sum(int((~np.isfinite(x)).sum()) for x in (got.value, got.probabilities, got.embedding)),
        n=len(labels),
    )


def limits_for(precision: str, task: TaskSpec, max_difference: float | None = None) -> dict[str, float]:
    """The limits of a precision in the task's unit; max_difference replaces the first of them."""
    if precision not in LIMITS:
        raise ModelError(
            f"spec field graph.precision: expected one of {', '.join(LIMITS)}, got {precision!r}; export the model again"
        )
    if max_difference is not None:
        return {next(iter(LIMITS[precision])): max_difference}
    scale = (task.high - task.low) / AGE_RANGE_YEARS
    return {name: limit * scale for name, limit in LIMITS[precision].items()}


def excess(found: Difference, limits: Mapping[str, float]) -> float:
    """The largest used share of a limit: at most 1 passes; infinite if a number is not finite."""
    shares = [getattr(found, name) / limit for name, limit in limits.items()]
    return float("inf") if found.not_finite or not np.isfinite(shares).all() else max(shares)


def faults(found: Difference, limits: Mapping[str, float], unit: str) -> list[str]:
    """Each exceeded limit, as text; empty if the file passes."""
    said = [f"{found.not_finite} NaN or Inf"] if found.not_finite else []
    for name, limit in limits.items():
        got = getattr(found, name)
        if not got <= limit:
            said.append(f"{name.replace('_', ' ')} {got:.4g} {unit} (at most {limit:.4g})")
    return said


def precision_of(spec: ModelSpec) -> str:
    """fp32, fp16 or int8."""
    return spec.graph.precision
