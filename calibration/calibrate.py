"""Fit intervals and gates on labelled faces and write them into the model's spec; the graph stays as it is.

Use faces that the model was neither trained nor selected on, and that look like those it will see. The intervals then hold the
true value as often as they say, over faces of that kind. A layer adds what 50 to 200 faces of one site can tell (an
offset and quantiles of its own) and can be taken off again.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError, UsageError
from ..runtime.contract.conformal_table import ConformalTable, log_odds, tempered
from ..runtime.contract.model_file import graph_sha256, read_spec, resolve, write_spec
from ..runtime.contract.sharpness import sharpness
from ..runtime.contract.spec import ModelSpec, TaskSpec
from ..runtime.places import write_json
from ..runtime.sessions.model import Model, check_calibration
from ..runtime.sessions.session import open_session
from .conformal import LabelledReadings, cross_coverage, fit_layer, fit_table, look_correlation
from .data.crop_cache import FaceCrops
from .data.datasets import open_data
from .gate_limits import fit_gates
from .measure.degrade import LADDER, second_look
from .measure.evaluate import LEVELS, dataset_faces, predict_crops

LADDER_FACES = 300  # degraded copies by rung of the ladder
LOOK_FACES, LOOKS = 200, 8
FEW_SITE_FACES = 50
LAYER_FIELDS = ("offset", "knots", "levels", "quantiles")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip calibrate`."""
    parser.add_argument(
        "model", metavar="MODEL", help="a model's name or .onnx; it is rewritten, unless --out is given"
    )
    parser.add_argument("--data", nargs="+", metavar="DATA", help="utkface:PATH, aaf:PATH or table:FILE.csv")
    parser.add_argument("--split", default="calibration", help="calibration, or all where the tables have no splits")
    parser.add_argument("--detector", choices=["yunet", "haar"], default="yunet", help="the one that will be used")
    parser.add_argument("--layer", metavar="NAME", help="add a site's own offset and quantiles on top, by this name")
    parser.add_argument("--remove-layer", metavar="NAME", help="take a layer off again")
    parser.add_argument("--out", type=Path, metavar="FILE.onnx", help="write a copy instead")
    parser.add_argument("--json", metavar="FILE|-", help="what was fitted, as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Predict, fit, write, and say what was measured."""
    if (args.data is None) == (args.remove_layer is None):
        raise UsageError("expected --data with labelled faces, or --remove-layer NAME and no --data")
    path = resolve(args.model)
    spec = read_spec(path)
    graph = Model(spec.with_calibration(None), open_session(path, spec))  # whatever it holds now, a new one can be made
    if args.remove_layer is not None:
        fitted = _without_layer(spec, args.remove_layer)
        said = f"layer {args.remove_layer} removed"
    elif args.layer is not None:
        check_calibration(path, spec)
        fitted, said = _with_layer(graph, spec, args)
    else:
        fitted, said = _calibration(graph, spec, args, graph_sha256(path))
    write_spec(path, spec.with_calibration(fitted), args.out)
    if args.json:
        write_json(args.json, fitted)
    if args.json != "-":
        print(f"{args.out or path}: {said}")
        print(f"next: numclip evaluate {args.out or args.model} --data {(args.data or ['DATA'])[0]}")
    return 0


def _calibration(graph: Model, spec: ModelSpec, args: argparse.Namespace, sha256: str) -> tuple[dict[str, Any], str]:
    """The calibration of the graph itself, and what to say of it."""
    _refuse_a_layer(spec, args.model)
    task = spec.task
    data, faces = _labelled_faces(graph, args)
    table = fit_table(faces, task, _degraded(graph, data))
    coverage = cross_coverage(faces, task, LEVELS)
    fitted: dict[str, Any] = {
        **table.to_json(),
        "n": len(faces.labels),
        "data": _sources(args, data),
        "gates": _gates(faces, table, task),
        "look_correlation": round(_look_correlation(graph, data, task), 4),
        "coverage": coverage,
        "date": _today(),
        "graph_sha256": sha256,
    }
    shares = ", ".join(f"{float(k):.0%}: {v:.1%}" for k, v in coverage.items()) or "too few faces"
    return fitted, f"calibrated on {len(faces.labels)} faces; coverage in cross-validation: {shares}"


def _with_layer(graph: Model, spec: ModelSpec, args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The calibration with a site's layer on top, and what to say of it."""
    base, task = spec.calibration, spec.task
    if base is None:
        raise ModelError(f"{args.model}: expected a calibrated model under a layer; run numclip calibrate without it")
    _refuse_a_layer(spec, args.model)
    data, faces = _labelled_faces(graph, args)
    table = fit_layer(faces, ConformalTable.from_json(base), task)
    fields = table.to_json()
    layer: dict[str, Any] = {
        "name": args.layer,
        **{name: fields[name] for name in LAYER_FIELDS},
        "gates": _gates(faces, table, task),
        "n": len(faces.labels),
        "data": _sources(args, data),
        "date": _today(),
    }
    n = len(faces.labels)
    if n < FEW_SITE_FACES:
        print(f"numclip: warning: {n} faces are few for a layer; {FEW_SITE_FACES} to 200 are better", file=sys.stderr)
    said = f"layer {args.layer} from {n} faces: offset {table.offset:+.2f} {task.unit}; gates {_held(layer['gates'])}"
    return {**base, "layers": [layer]}, said


def _without_layer(spec: ModelSpec, name: str) -> dict[str, Any]:
    base = dict(spec.calibration or {})
    layers: list[dict[str, Any]] = base.pop("layers", [])
    if [layer["name"] for layer in layers] != [name]:
        there = ", ".join(layer["name"] for layer in layers) or "none"
        raise UsageError(f"expected the name of a layer of this model ({there}), got {name}")
    return base


def _refuse_a_layer(spec: ModelSpec, name: str) -> None:
    for layer in (spec.calibration or {}).get("layers", []):
        raise UsageError(
            f"{name}: expected a model without layers, it has {layer['name']}; first --remove-layer {layer['name']}"
        )


def _labelled_faces(graph: Model, args: argparse.Namespace) -> tuple[list[FaceCrops], LabelledReadings]:
    """The faces of each data set, and what the graph answers for all of them."""
    data = [dataset_faces(graph, open_data(text).select(args.split), args.detector) for text in args.data]
    return data, LabelledReadings.join([labelled(graph, part.crops, part.labels) for part in data])


def labelled(graph: Model, crops: npt.NDArray[np.uint8], labels: npt.NDArray[np.float64]) -> LabelledReadings:
    """What the graph answers for these crops, beside their labels."""
    readings = predict_crops(graph, crops)
    values, probabilities = readings.value.astype(np.float64), readings.probabilities.astype(np.float64)
    return LabelledReadings(values, probabilities, labels, sharpness(np.asarray(crops)))


def _gates(faces: LabelledReadings, table: ConformalTable, task: TaskSpec) -> dict[str, dict[str, list[float]]]:
    words = tempered(faces.probabilities, table.temperature)
    return fit_gates(lambda threshold: log_odds(words, threshold, task), faces.labels, task)


def _degraded(graph: Model, data: list[FaceCrops]) -> LabelledReadings:
    """Every rung of the ladder, on other faces each."""
    random = np.random.default_rng(0)
    parts: list[LabelledReadings] = []
    for rung in LADDER:
        for faces in data:
            share = max(1, LADDER_FACES * len(faces.labels) // sum(len(part.labels) for part in data))
            chosen = np.sort(random.permutation(len(faces.labels))[:share])
            crops = np.stack([rung(np.asarray(faces.crops[i])) for i in chosen])
            parts.append(labelled(graph, crops, faces.labels[chosen]))
    return LabelledReadings.join(parts)


def _look_correlation(graph: Model, data: list[FaceCrops], task: TaskSpec) -> float:
    """rho of simulated looks at the calibration's faces."""
    random = np.random.default_rng(0)
    errors: list[npt.NDArray[np.float64]] = []
    for faces in data:
        share = max(2, LOOK_FACES * len(faces.labels) // sum(len(part.labels) for part in data))
        chosen = np.sort(random.permutation(len(faces.labels))[:share])
        looks = np.stack([second_look(np.asarray(faces.crops[i]), random) for i in chosen for _ in range(LOOKS)])
        values = predict_crops(graph, looks).value.astype(np.float64).reshape(len(chosen), LOOKS)
        errors.append(values - faces.labels[chosen][:, None])
    return look_correlation(np.concatenate(errors))


def _sources(args: argparse.Namespace, data: list[FaceCrops]) -> list[dict[str, Any]]:
    return [
        {"data": f"{text.partition(':')[0]}:{Path(text).name}", "split": args.split, "n": len(part.labels)}
        for text, part in zip(args.data, data, strict=True)
    ]


def _held(gates: dict[str, dict[str, list[float]]]) -> str:
    return "; ".join(f"{at} at {', '.join(rates)}" for at, rates in gates.items()) or "none (too few faces)"


def _today() -> str:
    return datetime.now(timezone.utc).date().isoformat()
