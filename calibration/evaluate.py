"""Mean error, bias and coverage of a model on labelled faces: overall, by band of the true value, and by group.

Every face is detected and cut by the model's crop contract, as in a live run. Faces without a detection are counted as
`skipped`, never dropped in silence.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ..errors import DataError
from ..runtime.json_report import write_json
from ..runtime.model import Model, load
from ..runtime.readings import Readings
from ..runtime.spec import ModelSpec, TaskSpec
from .crop_cache import FaceCrops, face_crops
from .datasets import Dataset, open_data

Floats = npt.NDArray[np.float64]
BATCH = 64
LEVELS = (0.5, 0.8, 0.9, 0.95)
AGE_BANDS = (0.0, 13.0, 19.0, 35.0, 65.0)  # child, teenager, young, middle, older: half-open, the last one open


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's answers for the faces of one data set, in the data set's order."""

    readings: Readings  # N
    faces: FaceCrops  # N samples with their labels and groups; skipped files

    @property
    def values(self) -> Floats:
        """[N] in the task's unit."""
        return self.readings.value.astype(np.float64)

    @property
    def labels(self) -> Floats:
        """[N] in the task's unit."""
        return self.faces.labels


def predict_dataset(model: Model, dataset: Dataset, detector: str = "yunet") -> Predictions:
    """Run the model over a data set (already one split); crops come from the cache. Raises DataError."""
    _check_labels(dataset, model.spec.task)
    faces = face_crops(dataset, model.spec.crop, detector)
    starts = tqdm(range(0, len(faces.samples), BATCH), desc="model", unit="batch", leave=False, disable=None)
    parts = [model(np.array(faces.crops[start : start + BATCH])) for start in starts]
    readings = Readings(
        np.concatenate([p.value for p in parts]),
        np.concatenate([p.probabilities for p in parts]),
        np.concatenate([p.embedding for p in parts]),
        model.spec,
        parts[0].table,
    )
    return Predictions(readings, faces)


def report(predictions: Predictions, names: dict[str, Any]) -> dict[str, Any]:
    """The evaluation as one JSON object; `names` (model, data, split, detector) come first."""
    values, labels, spec = predictions.values, predictions.labels, predictions.readings.spec
    error = values - labels
    intervals = interval_table(predictions.readings)
    covered = {k: _inside(v, labels) for k, v in intervals.items()}
    covered_90 = covered.get("0.9")
    return {
        **names,
        "n": len(labels),
        "skipped": len(predictions.faces.skipped),
        "mae": _rounded(np.abs(error).mean()),
        "cs5": _rounded((np.abs(error) <= 5).mean()),
        "bias": _rounded(error.mean()),
        "coverage": {f"{level:g}": _mean(covered.get(f"{level:g}")) for level in LEVELS},
        "width": {f"{level:g}": _width(intervals.get(f"{level:g}")) for level in LEVELS},
        "bands": _bands(labels, error, covered_90, spec.task),
        "groups": _groups(predictions.faces, error, covered_90),
    }


def interval_table(readings: Readings) -> dict[str, Floats]:
    """[N, 2] low and high by level ("0.9"); empty where the model is not calibrated."""
    if readings.spec.calibration is None:
        return {}
    return {f"{level:g}": readings.interval(level).astype(np.float64) for level in LEVELS}


def band_edges(task: TaskSpec) -> tuple[float, ...]:
    """Where the bands of the true value begin: five for age, else the task's own bins."""
    return AGE_BANDS if task.name == "age" else task.bin_edges[:-1]


def _bands(labels: Floats, error: Floats, covered: Any, task: TaskSpec) -> list[dict[str, Any]]:
    edges = (*band_edges(task), float("inf"))
    rows: list[dict[str, Any]] = []
    for low, high in pairwise(edges):
        inside = (labels >= low) & (labels < high)
        if inside.any():
            row = {"low": low, "high": None if np.isinf(high) else high, **_row(error[inside])}
            row["coverage"] = None if covered is None else _rounded(covered[inside].mean())
            rows.append(row)
    return rows


def _groups(faces: FaceCrops, error: Floats, covered: Any) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, sample in enumerate(faces.samples):
        for column, value in sample.groups.items():
            found[column][value].append(i)
    groups: dict[str, dict[str, Any]] = {}
    for column, members in sorted(found.items()):
        if len(members) <= len(faces.samples) / 2:  # a column of names is not a group
            groups[column] = {
                value: {**_row(error[at]), "coverage": None if covered is None else _rounded(covered[at].mean())}
                for value, at in sorted(members.items())
            }
    return groups


def _row(error: Floats) -> dict[str, Any]:
    return {"n": len(error), "mae": _rounded(np.abs(error).mean()), "bias": _rounded(error.mean())}


def _inside(interval: Floats, labels: Floats) -> npt.NDArray[np.bool_]:
    return (labels >= interval[:, 0]) & (labels <= interval[:, 1])


def _mean(covered: Any) -> float | None:
    return None if covered is None else _rounded(covered.mean())


def _width(interval: Floats | None) -> float | None:
    return None if interval is None else _rounded((interval[:, 1] - interval[:, 0]).mean())


def _rounded(value: Any) -> float:
    return round(float(value), 4)


def _check_labels(dataset: Dataset, task: TaskSpec) -> None:
    for sample in dataset.samples:
        if not task.low <= sample.label <= task.high:
            raise DataError(
                f"{dataset.name}: expected labels of {task.low:g} to {task.high:g} {task.unit}, "
                f"got {sample.label:g} for {sample.file}; correct or remove it"
            )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip evaluate`."""
    parser.add_argument("model", metavar="MODEL", help="a model's name or .onnx, or a checkpoint")
    parser.add_argument("--data", required=True, metavar="DATA", help="utkface:PATH, aaf:PATH or table:FILE.csv")
    parser.add_argument("--split", help="train, val, calibration, test or all; by default test where there are splits")
    parser.add_argument(
        "--detector", choices=["yunet", "haar"], default="yunet", help="haar misses half of aligned chips"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or tensorrt")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--json", metavar="FILE|-", help="the report as one JSON object, to a file or to stdout")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print a table, or JSON for a program. `_open_checkpoint` is the command line's opener, if any."""
    opener: Callable[[str], Model] | None = getattr(args, "_open_checkpoint", None)
    is_checkpoint = args.model.endswith(".safetensors") and opener is not None
    dataset = open_data(args.data)
    split = args.split or ("test" if any(s.split for s in dataset.samples) else "all")
    chosen = dataset.select(split)
    model = opener(args.model) if is_checkpoint and opener else load(args.model, args.device, args.threads)
    predictions = predict_dataset(model, chosen, args.detector)
    names = {"model": args.model, "data": args.data, "split": split, "detector": args.detector}
    result = report(predictions, names)
    if args.json:
        write_json(args.json, result)
    if args.json != "-":
        print("\n".join(_table(result, model.spec)))
        print(f"\nnext: numclip info {args.model}")
    return 0


def _table(result: dict[str, Any], spec: ModelSpec) -> list[str]:
    unit = spec.task.unit
    lines = [
        f"{result['model']} on {result['data']} ({result['split']}): MAE {result['mae']:.2f} {unit}, "
        f"within 5: {result['cs5']:.1%}, bias {result['bias']:+.2f}, n {result['n']}, skipped {result['skipped']}",
        "",
        f"{'true value':<24}{'n':>7}{'MAE':>8}{'bias':>8}{'90 %':>8}",
    ]
    for band in result["bands"]:
        name = f"{band['low']:g}+" if band["high"] is None else f"{band['low']:g} to {band['high']:g}"
        lines.append(_line(name, band))
    for column, members in result["groups"].items():
        lines += [_line(f"{column} {value}", row) for value, row in members.items()]
    return lines


def _line(name: str, row: dict[str, Any]) -> str:
    covered: Sequence[Any] | float | None = row.get("coverage")
    share = "" if not isinstance(covered, float) else f"{covered:.1%}"
    return f"{name[:23]:<24}{row['n']:>7}{row['mae']:>8.2f}{row['bias']:>+8.2f}{share:>8}"
