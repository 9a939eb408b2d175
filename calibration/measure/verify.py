"""Differences between artifacts of one model, in the task's unit: checkpoint, float32, FP16 and INT8 files, engines, libraries.

The first MODEL is the reference (a checkpoint needs torch, a file runs in ONNX Runtime on the CPU); every other one answers the
same real faces, on --device, and is held to the limits of its precision. With one MODEL alone, its file on --device is held
against itself in ONNX Runtime on the CPU. The exit code is 1 where an artifact misses its limits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelError, UsageError
from ...runtime.contract.model_file import read_spec, resolve, write_spec
from ...runtime.contract.spec import ModelSpec
from ...runtime.places import write_json
from ...runtime.sessions.choice import probe_crops
from ...runtime.sessions.engine_file import read_sidecar, write_sidecar
from ...runtime.sessions.model import Model
from ...runtime.sessions.session import DEVICES, Outputs, Session, open_session
from ..data.datasets import open_data
from .parity import Difference, ProofFaces, answers, difference, faults, limits_for, precision_of, proof_faces

PROBES = 32  # pictures, where there are no faces


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip verify`."""
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="names, .onnx, .engine; the first, or a checkpoint, is the reference"
    )
    parser.add_argument(
        "--data", nargs="+", metavar="DATA", help=f"real faces; without: {PROBES} smooth pictures, a weaker proof"
    )
    parser.add_argument("--split", help="train, val, calibration, test or all; by default val where there are splits")
    parser.add_argument("--faces", type=int, default=256, help="how many")
    parser.add_argument(
        "--device", choices=DEVICES, default="cpu", help="where the compared ones run (engines: tensorrt)"
    )
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--write", action="store_true", help="write each row into the artifact's own spec")
    parser.add_argument("--json", metavar="FILE|-", help="the rows as one JSON object, to a file or to stdout")


def run(args: argparse.Namespace) -> int:
    """Compare, report, and fail where a limit is missed."""
    if args.faces < 1:
        raise UsageError(f"expected --faces above 0, got {args.faces}")
    spec, reference = open_reference(args.models[0], getattr(args, "_open_checkpoint", None))
    compared = args.models[1:] or args.models
    if len(args.models) == 1 and args.models[0].endswith(".safetensors"):
        raise UsageError(f"{args.models[0]}: expected something to compare the checkpoint with; name a second MODEL")
    proof = _proof(args, spec, reference)
    expected = answers(reference, proof.crops)
    rows = [_row(name, args, spec, proof, expected) for name in compared]
    report = {"reference": args.models[0], "faces": proof.said, "n": len(proof.labels), "rows": rows}
    if args.json:
        write_json(args.json, report)
    if args.json != "-":
        print("\n".join(table(report)))
    failed = [row["model"] for row in rows if row["missed"]]
    for row in rows:
        if row["missed"]:
            print(
                f"numclip: {row['model']} misses its limits: {', '.join(row['missed'])}; {advice(row)}", file=sys.stderr
            )
    return 1 if failed else 0


def _proof(args: argparse.Namespace, spec: ModelSpec, reference: Session) -> ProofFaces:
    """The faces of --data; without, pictures that every machine can make, as on a board that holds no faces."""
    if args.data:
        return proof_faces([open_data(text) for text in args.data], spec, args.faces, args.split)
    crops = probe_crops(spec.crop.side, PROBES)
    labels = answers(reference, crops).value.astype(np.float64)  # no truth: errors are the differences themselves
    return ProofFaces(crops, labels, f"{PROBES} smooth pictures, no faces")


def open_reference(name: str, opener: Callable[[str], Model] | None) -> tuple[ModelSpec, Session]:
    """What the others are held against: a checkpoint in PyTorch, or a file in ONNX Runtime on the CPU."""
    if name.endswith(".safetensors"):
        if opener is None:
            raise UsageError(f"{name}: expected the command line for a checkpoint; run numclip verify")
        model = opener(name)
        return model.spec, model.session
    path = resolve(name)
    if path.suffix == ".engine":
        raise UsageError(f"{name}: expected a checkpoint or an .onnx first, as the reference; put the engine after it")
    spec = read_spec(path)
    return spec, open_session(path, spec, "cpu")


def _row(name: str, args: argparse.Namespace, spec: ModelSpec, proof: ProofFaces, expected: Outputs) -> dict[str, Any]:
    path = resolve(name)
    own = read_sidecar(path)[0] if path.suffix == ".engine" else read_spec(path)
    if (own.task, own.crop) != (spec.task, spec.crop):
        raise ModelError(f"{name}: expected an artifact of the reference's model, its task or crop is another")
    session = open_session(path, own, "tensorrt" if path.suffix == ".engine" else args.device, args.threads)
    found = difference(answers(session, proof.crops), expected, proof.labels)
    precision = precision_of(own)
    if args.write:
        _write(path, own, precision, found, proof, args.models[0])
    facts = session.describe()
    return {
        "model": name,
        "precision": precision,
        "session": {k: facts[k] for k in ("library", "version", "device")},
        **found.to_json(own.task, proof.said, args.models[0]),
        "missed": faults(found, limits_for(precision, own.task), own.task.unit),
    }


def _write(path: Path, spec: ModelSpec, precision: str, found: Difference, proof: ProofFaces, against: str) -> None:
    """The row goes into the artifact's parity table; the graph stays as it is."""
    key = "engine" if path.suffix == ".engine" else precision
    row = found.to_json(spec.task, proof.said, "PyTorch" if against.endswith(".safetensors") else Path(against).name)
    written = replace(spec, parity={**spec.parity, key: row})
    if path.suffix == ".engine":
        write_sidecar(path, written, read_sidecar(path)[1])
    else:
        write_spec(path, written)


def advice(row: dict[str, Any]) -> str:
    """What to do about a row that misses its limits."""
    makers = {"int8": "numclip quantize", "fp16": "numclip export --precision fp16"}
    maker = makers.get(row["precision"])
    return f"make it again with {maker} --widen" if maker else "export it again, or run it on another --device"


def table(report: dict[str, Any]) -> list[str]:
    """The report in lines a person reads."""
    rows = report["rows"]
    unit = rows[0]["unit"]
    lines = [
        f"against {report['reference']} on {report['n']} faces ({report['faces']}); differences in {unit}",
        "",
        f"{'model':<28}{'precision':>10}{'library':>14}{'mean':>9}{'p99':>9}{'max':>9}{'MAE':>8}{'change':>9}{'cosine':>9}{'NaN':>5}",
    ]
    for row in rows:
        numbers = "".join(f"{_text(row[k]):>9}" for k in ("mean", "p99", "max"))
        lines.append(
            f"{Path(row['model']).name[-27:]:<28}{row['precision']:>10}{row['session']['library']:>14}{numbers}"
            f"{_text(row['mae']):>8}{_text(row['mae_change']):>9}{_text(row['cosine']):>9}{row['not_finite']:>5}"
            f"  {'MISSED' if row['missed'] else 'ok'}"
        )
    return lines


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if abs(value) < 100 else f"{value:.3g}"
