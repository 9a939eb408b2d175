"""Fit intervals on labelled faces and write them into the model's spec; the graph stays as it is.

Use faces that the model was neither trained nor selected on, and that look like those it will see. The intervals then hold the
true value as often as they say, over faces of that kind.
"""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.json_report import write_json
from ..runtime.model import load
from ..runtime.model_file import graph_sha256, resolve, write_spec
from .conformal import LabelledReadings, cross_coverage, fit_table
from .datasets import open_data
from .evaluate import LEVELS, predict_dataset
from .gate_limits import fit_gates


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip calibrate`."""
    parser.add_argument(
        "model", metavar="MODEL", help="a model's name or .onnx; it is rewritten, unless --out is given"
    )
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="DATA", help="utkface:PATH, aaf:PATH or table:FILE.csv"
    )
    parser.add_argument("--split", default="calibration", help="calibration, or all where the tables have no splits")
    parser.add_argument("--detector", choices=["yunet", "haar"], default="yunet", help="the one that will be used")
    parser.add_argument("--out", type=Path, metavar="FILE.onnx", help="write a copy instead")
    parser.add_argument("--json", metavar="FILE|-", help="what was fitted, as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Predict, fit, write, and say what was measured."""
    path = resolve(args.model)
    model = load(path, "auto")
    task = model.spec.task
    parts = [predict_dataset(model, open_data(text).select(args.split), args.detector) for text in args.data]
    faces = LabelledReadings(
        np.concatenate([p.values for p in parts]),
        np.concatenate([p.readings.probabilities.astype(np.float64) for p in parts]),
        np.concatenate([p.labels for p in parts]),
    )
    table = fit_table(faces, task)
    calibration: dict[str, Any] = {
        **table.to_json(),
        "n": len(faces.labels),
        "data": [
            {"data": f"{text.partition(':')[0]}:{Path(text).name}", "split": args.split, "n": len(p.labels)}
            for text, p in zip(args.data, parts, strict=True)
        ],
        "gates": fit_gates(faces.values, table.difficulty(faces.values, faces.probabilities, task), faces.labels, task),
        "coverage": cross_coverage(faces, task, LEVELS),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "graph_sha256": graph_sha256(path),
    }
    write_spec(path, model.spec.with_calibration(calibration), args.out)
    if args.json:
        write_json(args.json, calibration)
    if args.json != "-":
        shares = ", ".join(f"{float(k):.0%}: {v:.1%}" for k, v in calibration["coverage"].items()) or "too few faces"
        print(f"{args.out or path}: calibrated on {len(faces.labels)} faces; coverage in cross-validation: {shares}")
        print(f"next: numclip evaluate {args.out or args.model} --data {args.data[0]}")
    return 0
