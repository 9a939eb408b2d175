"""The model file's contract: everything a runtime must know about a model, as frozen records and as JSON.

A model is one self-describing ONNX file. Its metadata property `numclip` holds the JSON of a `ModelSpec`; reading it
back checks every field and names the one that is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, cast

from ...errors import ModelError

SCHEMA_VERSION = 1
GRAPH = {"input": "crops", "value": "value", "probabilities": "probabilities", "embedding": "embedding"}


@dataclass(frozen=True)
class TaskSpec:
    """An ordinal task: a number on a scale, and the K words (text bins) that cover the scale."""

    name: str  # "age"
    unit: str  # "years"
    low: float  # smallest value the model may answer, in the unit
    high: float  # largest value
    bin_edges: tuple[float, ...]  # K + 1 rising edges; bin k is [edge k, edge k+1)
    words: tuple[str, ...]  # K words, one per bin

    @property
    def num_bins(self) -> int:
        """K."""
        return len(self.words)

    @property
    def bin_centers(self) -> tuple[float, ...]:
        """The K midpoints between neighbouring edges, in the unit."""
        return tuple((a + b) / 2 for a, b in pairwise(self.bin_edges))

    def bin_of(self, value: float) -> int:
        """The index of the bin that holds `value`; values outside the scale fall into the first or last bin."""
        return max(0, min(self.num_bins - 1, sum(value >= edge for edge in self.bin_edges[1:-1])))


@dataclass(frozen=True)
class BoxRule:
    """How a detector's box becomes a square crop when there are no landmarks (all in units of the box side)."""

    scale: float  # crop side / mean box side
    shift_x: float  # crop center minus box center, in box widths
    shift_y: float  # same, in box heights


@dataclass(frozen=True)
class CropSpec:
    """The crop contract: how a face becomes the [S, S, 3] square that the model reads."""

    side: int  # S, px
    landmarks: tuple[tuple[float, float], ...]  # five (x, y) in [0, 1] of the side, in YuNet's order
    interpolation: str = "bilinear"
    box_rules: Mapping[str, BoxRule] = field(default_factory=lambda: {})


@dataclass(frozen=True)
class ModelSpec:
    """What travels with a model: its task, crop, graph, calibration, proofs, origins and licences."""

    name: str
    task: TaskSpec
    crop: CropSpec
    graph: Mapping[str, Any]  # tensor names and sizes: input, value, probabilities, embedding, embedding_dim
    calibration: Mapping[str, Any] | None = None
    parity: Mapping[str, Any] = field(default_factory=lambda: {})
    metrics: Sequence[Mapping[str, Any]] = ()
    provenance: Mapping[str, Any] = field(default_factory=lambda: {})
    licences: Mapping[str, str] = field(default_factory=lambda: {})
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The spec as one line of JSON, keys sorted, so that equal specs are equal bytes."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> ModelSpec:
        """Read and check a spec; raises ModelError naming the field that is wrong, missing or newer."""
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise ModelError(f"the model's spec is not JSON ({error}); export the model again") from None
        fields = _object(raw, "spec")
        version = _get(fields, "schema_version", int, "schema_version")
        if version != SCHEMA_VERSION:
            hint = "update numclip" if version > SCHEMA_VERSION else "export the model again"
            raise ModelError(f"spec field schema_version: expected {SCHEMA_VERSION}, got {version}; {hint}")
        metrics = _get(fields, "metrics", list, "metrics")
        spec = ModelSpec(
            name=_get(fields, "name", str, "name"),
            task=_read_task(_object(fields.get("task"), "task")),
            crop=_read_crop(_object(fields.get("crop"), "crop")),
            graph=_read_graph(_object(fields.get("graph"), "graph")),
            calibration=None if fields.get("calibration") is None else _object(fields["calibration"], "calibration"),
            parity=_object(fields.get("parity"), "parity"),
            metrics=tuple(_object(m, "metrics[]") for m in metrics),
            provenance=_object(fields.get("provenance"), "provenance"),
            licences={k: str(v) for k, v in _object(fields.get("licences"), "licences").items()},
        )
        unknown = set(fields) - set(asdict(spec))
        if unknown:
            raise ModelError(f"spec field {sorted(unknown)[0]}: expected no such field; update numclip")
        return spec

    def with_calibration(self, calibration: Mapping[str, Any] | None) -> ModelSpec:
        """The same spec with another calibration (or none)."""
        return replace(self, calibration=calibration)


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ModelError(f"spec field {where}: expected an object, got {_short(value)}; export the model again")
    return cast(dict[str, Any], value)


def _get(fields: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    value = fields.get(key)
    wanted = (int, float) if kind is float else kind
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        names = {int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "an object"}
        raise ModelError(f"spec field {where}: expected {names[kind]}, got {_short(value)}; export the model again")
    return value


def _short(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:60]


def _numbers(value: Any, where: str) -> tuple[float, ...]:
    items = cast(list[Any], value) if isinstance(value, list) else None
    if items is None or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in items):
        raise ModelError(f"spec field {where}: expected a list of numbers, got {_short(value)}; export the model again")
    return tuple(float(v) for v in items)


def _read_task(fields: Mapping[str, Any]) -> TaskSpec:
    words = _get(fields, "words", list, "task.words")
    task = TaskSpec(
        name=_get(fields, "name", str, "task.name"),
        unit=_get(fields, "unit", str, "task.unit"),
        low=float(_get(fields, "low", float, "task.low")),
        high=float(_get(fields, "high", float, "task.high")),
        bin_edges=_numbers(fields.get("bin_edges"), "task.bin_edges"),
        words=tuple(str(w) for w in words),
    )
    check_task(task)
    return task


def check_task(task: TaskSpec) -> None:
    """Raise ModelError unless the bins are at least two, named, and rising."""
    if task.num_bins < 2:
        raise ModelError(f"spec field task.words: expected at least 2 words, got {task.num_bins}; add bins")
    if len(task.bin_edges) != task.num_bins + 1:
        expected, got = task.num_bins + 1, len(task.bin_edges)
        raise ModelError(f"spec field task.bin_edges: expected {expected} edges for {task.num_bins} words, got {got}")
    if any(b <= a for a, b in pairwise(task.bin_edges)):
        raise ModelError(f"spec field task.bin_edges: expected rising edges, got {list(task.bin_edges)}")
    if not task.low < task.high:
        raise ModelError(f"spec field task.high: expected more than low = {task.low}, got {task.high}")


def _read_crop(fields: Mapping[str, Any]) -> CropSpec:
    side = _get(fields, "side", int, "crop.side")
    if not 16 <= side <= 1024:
        raise ModelError(f"spec field crop.side: expected 16 to 1024 px, got {side}; export the model again")
    points = tuple(_numbers(p, "crop.landmarks") for p in _get(fields, "landmarks", list, "crop.landmarks"))
    if len(points) != 5 or any(len(p) != 2 for p in points):
        raise ModelError(f"spec field crop.landmarks: expected five (x, y) points, got {_short(list(points))}")
    interpolation = _get(fields, "interpolation", str, "crop.interpolation")
    if interpolation != "bilinear":
        raise ModelError(f"spec field crop.interpolation: expected bilinear, got {interpolation}; update numclip")
    rules: dict[str, BoxRule] = {}
    for name, rule in _object(fields.get("box_rules"), "crop.box_rules").items():
        where = f"crop.box_rules.{name}"
        numbers = {k: float(_get(_object(rule, where), k, float, f"{where}.{k}")) for k in BoxRule.__annotations__}
        rules[name] = BoxRule(**numbers)
    return CropSpec(side, tuple((p[0], p[1]) for p in points), interpolation, rules)


def _read_graph(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in GRAPH:
        _get(fields, key, str, f"graph.{key}")
    _get(fields, "embedding_dim", int, "graph.embedding_dim")
    return fields
