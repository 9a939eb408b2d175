"""Compare the values of several files of one model: checkpoint, float32, FP16 and INT8 files, and engines.

The first MODEL is the reference: a checkpoint runs in PyTorch, a file in ONNX Runtime on the CPU. Every other MODEL runs on
--device with the same faces, and its differences, in the task's unit, must stay within the limits of its precision. For ages,
these are 0.02 years in any value for FP32; 0.1 in the mean and 0.5 in the 99th percentile for FP16; 0.5 in the mean and a
growth of 0.05 in the mean absolute error for INT8; other tasks have limits in proportion to their range. With a single MODEL, the same file on --device is compared with ONNX Runtime on the
CPU. The exit code is 1 if a file exceeds a limit.
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
    add(
        "models",
        nargs="+",
        metavar="MODEL",
        help="models to compare: names, .onnx or .engine files; the first, the reference, may be a checkpoint",
    )
    add_data(parser, f" (default: {PROBES} synthetic pictures)", required=False, default=[])
    add(
        "--split",
        help="split to use: train, val, calibration, test or all (default: val if a data set has it, else all)",
    )
    add("--num-faces", type=int, default=256, metavar="N", help="number of labelled faces to use")
    add(
        "--device",
        choices=DEVICES,
        default="cpu",
        help="device that runs the models after the first; engines always run in TensorRT",
    )
    add("--threads", type=int, metavar="N", help="CPU threads (default: chosen by the inference library)")
    add("--write", action="store_true", help="write each result into the metadata of its model file")
    add_json(parser, "the results")


def run(args: argparse.Namespace) -> int:
    """Compare, print the table, and fail if a limit is exceeded."""
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
    if args.json != "-":
        print("\n".join(_table(found)))
    if args.json:
        write_json(args.json, found.to_json())
    for row in found.missed:
        print(f"numclip: {row.model} exceeds its limits: {', '.join(row.missed)}; {row.advice}", file=sys.stderr)
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
