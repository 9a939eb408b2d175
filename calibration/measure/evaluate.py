"""Mean error, bias and coverage of a model on labelled faces: overall, by band of the true value, and by group.

Every face is detected and cut by the model's crop contract, as in a live run. Faces without a detection are counted as
`skipped`, never dropped in silence.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ...errors import DataError, UsageError
from ...runtime.contract.model_file import resolve
from ...runtime.contract.readings import Readings
from ...runtime.contract.spec import ModelSpec, TaskSpec
from ...runtime.places import write_json
from ...runtime.sessions.model import Model, load
from ..data.crop_cache import FaceCrops, face_crops
from ..data.datasets import Dataset, open_data
from .measures import CLEARLY, GATE, SMALL, Judged, gate_rows, judge, measure, widths_at_equal_coverage

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


def dataset_faces(model: Model, dataset: Dataset, detector: str = "yunet") -> FaceCrops:
    """Detect and cut the faces of a data set (already one split) for a model, from the cache; raises DataError."""
    check_labels(dataset, model.spec.task)
    return face_crops(dataset, model.spec.crop, detector)


def predict_crops(model: Model, crops: npt.NDArray[np.uint8]) -> Readings:
    """Read any number of crops [N, S, S, 3], N >= 1, in batches."""
    starts = tqdm(range(0, len(crops), BATCH), desc="model", unit="batch", leave=False, disable=None)
    return joined([model(np.array(crops[start : start + BATCH])) for start in starts])


def joined(parts: Sequence[Readings]) -> Readings:
    """One model's readings, one after the other."""
    sharp = [p.sharpness for p in parts if p.sharpness is not None]
    return Readings(
        np.concatenate([p.value for p in parts]),
        np.concatenate([p.probabilities for p in parts]),
        np.concatenate([p.embedding for p in parts]),
        parts[0].spec,
        parts[0].table,
        np.concatenate(sharp) if sharp else None,
    )


def predict_dataset(model: Model, dataset: Dataset, detector: str = "yunet") -> Predictions:
    """Run the model over a data set (already one split); crops come from the cache. Raises DataError."""
    faces = dataset_faces(model, dataset, detector)
    return Predictions(predict_crops(model, faces.crops), faces)


def report(predictions: Predictions, names: dict[str, Any]) -> dict[str, Any]:
    """The evaluation as one JSON object; `names` (model, data, split, detector) come first."""
    readings, labels, task = predictions.readings, predictions.labels, predictions.readings.spec.task
    faces = judge(readings, labels)
    levels = (
        {} if readings.spec.calibration is None else {lv: readings.interval(lv).astype(np.float64) for lv in LEVELS}
    )
    return {
        **names,
        "n": len(labels),
        "skipped": len(predictions.faces.skipped),
        "mae": round(float(np.abs(faces.error).mean()), 4),
        "cs5": round(float((np.abs(faces.error) <= 5).mean()), 4),
        "bias": round(float(faces.error.mean()), 4),
        "coverage": {f"{lv:g}": _share_inside(levels.get(lv), labels) for lv in LEVELS},
        "width": {f"{lv:g}": _mean_width(levels.get(lv)) for lv in LEVELS},
        "width_at_equal_coverage": widths_at_equal_coverage(readings, labels),
        "gates": gate_rows([readings], labels),
        "all": measure(faces),
        "bands": _bands(faces, labels, task),
        "bands_by_value": _bands(faces, predictions.values, task),
        "groups": {
            column: {value: measure(faces.take(mask)) for value, mask in members.items()}
            for column, members in group_masks(predictions.faces).items()
        },
    }


def band_edges(task: TaskSpec) -> tuple[float, ...]:
    """Where the bands of a value begin: five for age, else the task's own bins."""
    return AGE_BANDS if task.name == "age" else task.bin_edges[:-1]


def _bands(faces: Judged, by: Floats, task: TaskSpec) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for low, high in pairwise((*band_edges(task), float("inf"))):
        inside = (by >= low) & (by < high)
        if inside.any():
            rows.append({"low": low, "high": None if np.isinf(high) else high, **measure(faces.take(inside))})
    return rows


def group_masks(faces: FaceCrops) -> dict[str, dict[str, npt.NDArray[np.bool_]]]:
    """Column, value: mask [N]; a column with a value for almost every face (a name) is not a group."""
    columns = sorted({column for sample in faces.samples for column in sample.groups})
    found: dict[str, dict[str, npt.NDArray[np.bool_]]] = {}
    for column in columns:
        values = np.array([sample.groups.get(column, "") for sample in faces.samples])
        members = sorted(set(values.tolist()) - {""})
        if len(members) <= len(faces.samples) / 2:
            found[column] = {value: values == value for value in members}
    return found


def _share_inside(interval: Floats | None, labels: Floats) -> float | None:
    if interval is None:
        return None
    return round(float(((labels >= interval[:, 0]) & (labels <= interval[:, 1])).mean()), 4)


def _mean_width(interval: Floats | None) -> float | None:
    return None if interval is None else round(float((interval[:, 1] - interval[:, 0]).mean()), 4)


def check_labels(dataset: Dataset, task: TaskSpec) -> None:
    """Raise DataError naming the first sample whose label no answer of the task can meet."""
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
    parser.add_argument("--device", default="auto", help="auto, cpu, openvino, openvino-bf16, cuda or tensorrt")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--stress", action="store_true", help="measure on worse pictures of the same faces too")
    parser.add_argument("--looks", type=int, default=1, metavar="N", help="judge gates after N simulated looks too")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write report.md, report.json and plots there")
    parser.add_argument("--json", metavar="FILE|-", help="the report as one JSON object, to a file or to stdout")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print a table, or JSON for a program. `_open_checkpoint` is the command line's opener, if any."""
    if args.looks < 1:
        raise UsageError(f"expected --looks of 1 or more, got {args.looks}")
    opener: Callable[[str], Model] | None = getattr(args, "_open_checkpoint", None)
    is_checkpoint = args.model.endswith(".safetensors") and opener is not None
    dataset = open_data(args.data)
    split = args.split or ("test" if any(s.split for s in dataset.samples) else "all")
    chosen = dataset.select(split)
    model = opener(args.model) if is_checkpoint and opener else load(resolve(args.model), args.device, args.threads)
    predictions = predict_dataset(model, chosen, args.detector)
    names = {"model": args.model, "data": args.data, "split": split, "detector": args.detector}
    result = report(predictions, names)
    from .report import write_report  # these two build on this module
    from .stress import stress_rows, track_rows

    if args.stress:
        result["stress"] = stress_rows(model, predictions.faces)
    if args.looks > 1:
        result["gates"] += track_rows(model, predictions.faces, args.looks)
    if args.report:
        write_report(args.report, result, predictions)
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
        f"{'true value or group':<24}{'n':>7}{'MAE':>8}{'95 %':>14}{'bias':>8}{'inside 90 %':>13}",
    ]
    rows = named_rows(result) + [(row["name"], row) for row in result.get("stress", [])]
    lines += [_line(name, row) for name, row in rows]
    lines += [_gate_line(row) for row in result["gates"] if (row["threshold"], row["error"]) == GATE]
    small = sum(row["few"] for _, row in rows)
    return [*lines, *([f"{small} rows have fewer than {SMALL} faces: their figures are rough"] if small else [])]


def named_rows(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every row of a report by a name to print: bands of the true value, then groups."""
    rows = [(band_name(band), band) for band in result["bands"]]
    for column, members in result["groups"].items():
        rows += [(f"{column} {value}", row) for value, row in members.items()]
    return rows


def band_name(band: dict[str, Any]) -> str:
    """`13 to 19`, `65+`."""
    return f"{band['low']:g}+" if band["high"] is None else f"{band['low']:g} to {band['high']:g}"


def _line(name: str, row: dict[str, Any]) -> str:
    low, high = row["mae_95"]
    covered = "" if row["coverage"] is None else f"{row['coverage']:.1%}"
    return (
        f"{name[:23]:<24}{row['n']:>7}{row['mae']:>8.2f}{f'{low:.2f}-{high:.2f}':>14}{row['bias']:>+8.2f}{covered:>13}"
    )


def _gate_line(row: dict[str, Any]) -> str:
    said = f"gate {row['threshold']:g} at {row['error']:.0%}, {row['looks']} look{'s' * (row['looks'] > 1)}: yes to "
    said += "" if row["false_accept"] is None else f"{row['false_accept']:.1%} of {row['false_accept_n']} below, "
    clear = row["threshold"] + CLEARLY
    return said + ("" if row["accept"] is None else f"{row['accept']:.1%} of {row['accept_n']} from {clear:g}")
