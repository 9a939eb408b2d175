"""What a model file says about itself: task, metrics, parity, calibration, and what its licences allow."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .contract.licences import commercial_use
from .contract.model_file import graph_sha256, read_spec, resolve
from .contract.spec import ModelSpec
from .places import write_json
from .sessions.engine_file import read_sidecar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip info`."""
    parser.add_argument("model", metavar="MODEL", help="a model's name or file")
    parser.add_argument("--json", metavar="FILE|-", help="the whole spec as JSON, to a file or to stdout")


def run(args: argparse.Namespace) -> int:
    """Print the spec for a person, or as JSON for a program."""
    path = resolve(args.model)
    spec = read_sidecar(path)[0] if path.suffix == ".engine" else read_spec(path)
    if args.json != "-":
        print(describe(spec, path))
        print(f"\nnext: numclip run 0 --model {args.model} --show")
    if args.json:
        write_json(args.json, report(spec, path))
    return 0


def report(spec: ModelSpec, path: Path) -> dict[str, Any]:
    """The spec as data, with what it does not say itself: the graph's hash, the file's size, the licence verdict."""
    allowed, why = commercial_use(spec.licences)
    return {
        **json.loads(spec.to_json()),
        "file_bytes": path.stat().st_size,
        "graph_sha256": graph_sha256(path) if path.suffix == ".onnx" else None,
        "commercial_use": {"allowed": allowed, "why": why},
    }


def describe(spec: ModelSpec, path: Path) -> str:
    """The spec in lines a person reads."""
    task, crop = spec.task, spec.crop
    bins = ", ".join(f"{w} {a:g}-{b:g}" for w, a, b in zip(task.words, task.bin_edges, task.bin_edges[1:]))
    allowed, why = commercial_use(spec.licences)
    lines = [
        f"{spec.name}  ({path}, {path.stat().st_size / 1e6:.1f} MB)",
        f"task         {task.name} in {task.unit}, {task.low:g} to {task.high:g}",
        f"bins         {bins}",
        f"crop         {crop.side} x {crop.side} px, box rules for: {', '.join(crop.box_rules) or 'none'}",
        *_section("metrics", [_pairs(m.to_json()) for m in spec.metrics] or ["none measured"]),
        f"precision    {spec.graph.precision}",
        *_section("parity", [_parity_line(k, row.to_json()) for k, row in spec.parity.items()] or ["not measured"]),
        *_section("calibration", _calibration_lines(spec)),
        *_section("provenance", _named(spec.provenance.to_json()) or ["not recorded"]),
        *_section("licences", _named(spec.licences.stated()) or ["none named"]),
        f"commercial   {'yes' if allowed else 'no'}: {why}",
    ]
    return "\n".join(lines)


def _parity_line(precision: str, row: Mapping[str, Any]) -> str:
    """How far an artifact was from its reference, and on what."""
    change = f", MAE {row['mae_change']:+.4f}" if row.get("mae_change") is not None else ""
    rest = [
        f"{name} {_short(row[key])}" for key, name in (("cosine", "lowest cosine"), ("not_finite", "NaN")) if key in row
    ]
    figures = ", ".join(f"{name} {_short(row.get(name))}" for name in ("mean", "p99", "max"))
    against = f" against {row['against']}" if "against" in row else ""
    return f"{precision}: {figures} {row.get('unit', '')}{change}{''.join(f', {r}' for r in rest)}; {row.get('n')} faces, {row.get('faces')}{against}"


def _calibration_lines(spec: ModelSpec) -> list[str]:
    if spec.calibration is None:
        return ["none: intervals and gates need `numclip calibrate` first"]
    return [_pairs(spec.calibration.to_json())]


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"{title if at == 0 else '':<12} {line}" for at, line in enumerate(lines)]


def _named(fields: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {_short(value)}" for name, value in fields.items()]


def _pairs(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in fields.items())


def _short(value: Any) -> str:
    """A value in a few words: numbers rounded, long lists counted."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return _pairs(value)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, (list, tuple)):
        items: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]
        return ", ".join(map(_short, items)) if len(items) <= 6 else f"[{len(items)} values]"
    return str(value)
