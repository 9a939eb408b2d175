"""Differences between artifacts of one model, in the task's unit: checkpoint, float32, FP16 and INT8 files, engines, libraries.

The first MODEL is the reference. A checkpoint needs torch; a file runs in ONNX Runtime on the CPU. Every other MODEL answers
the same real faces on --device and is held to the limits of its precision. With one MODEL alone, its file on --device is
held against itself in ONNX Runtime on the CPU. The exit code is 1 where an artifact misses its limits.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..calibration import Verification, VerifyOptions, verify
from ..calibration.measure.verification import PROBES
from ..runtime.places import write_json
from ..runtime.sessions.session import DEVICES
from .checkpoints import opened_checkpoint
from .shared_flags import add_data, add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip verify`."""
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL", help="names, .onnx or .engine files; the first may be a checkpoint")
    add_data(parser, f" (without: {PROBES} smooth pictures)", required=False, default=[])
    add("--split", help="train, val, calibration, test or all; without: val where a data set has it, else all")
    add("--num-faces", type=int, default=256, metavar="N", help="how many labelled faces are used")
    add("--device", choices=DEVICES, default="cpu", help="where the compared ones run; engines always run in TensorRT")
    add("--threads", type=int, metavar="N", help="CPU threads; without: the library's choice")
    add("--write", action="store_true", help="write each row into the artifact's own spec")
    add_json(parser, "the rows")


def run(args: argparse.Namespace) -> int:
    """Compare, report, and fail where a limit is missed."""
    name = args.models[0]
    found = verify(
        VerifyOptions(
            reference=opened_checkpoint(name) or name,
            compared=args.models[1:],
            data=args.data,
            split=args.split,
            num_faces=args.num_faces,
            device=args.device,
            threads=args.threads,
            write=args.write,
            reference_name=name,
        )
    )
    if args.json:
        write_json(args.json, found.to_json())
    if args.json != "-":
        print("\n".join(_table(found)))
    for row in found.missed:
        print(f"numclip: {row.model} misses its limits: {', '.join(row.missed)}; {row.advice}", file=sys.stderr)
    return 1 if found.missed else 0


def _table(found: Verification) -> list[str]:
    lines = [
        f"against {found.reference} on {found.n} faces ({found.faces}); differences in {found.unit}",
        "",
        f"{'model':<28}{'precision':>10}{'library':>14}{'mean':>9}{'p99':>9}{'max':>9}{'MAE':>8}{'change':>9}{'cosine':>9}{'NaN':>5}",
    ]
    for row in found.rows:
        parity = row.parity
        numbers = "".join(f"{_text(figure):>9}" for figure in (parity.mean, parity.p99, parity.max))
        lines.append(
            f"{Path(row.model).name[-27:]:<28}{row.precision:>10}{row.library:>14}{numbers}"
            f"{_text(parity.mae):>8}{_text(parity.mae_change):>9}{_text(parity.cosine):>9}{parity.not_finite:>5}"
            f"  {'MISSED' if row.missed else 'ok'}"
        )
    return lines


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.3g}"
