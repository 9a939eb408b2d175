"""Measure a model on labelled faces: overall, by range of true values, by group, and for each gate.

Each face is detected and cropped by the model's crop contract, as in a live run. Pictures in which no face is detected are
counted as `skipped`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import UsageError
from ...runtime.contract.measured import Band, Metric
from ...runtime.contract.model_file import resolve
from ...runtime.contract.spec import TaskSpec
from ...runtime.places import check_folder
from ...runtime.sessions.model import Model, load
from ..data.crop_cache import DEFAULT_DETECTOR, FaceCrops
from ..data.datasets import Dataset, open_data
from ..data.protocols import split_as_trained
from .band_measures import BandEvaluation, summarise_bands
from .distance import signed_distance
from .identity import identity
from .predictor import predict_dataset
from .report import write_band_report, write_report
from .stress import stress_rows, track_rows
from .summary import Evaluation, band_edges, summarise

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EvaluateOptions:
    """What `evaluate` measures."""

    model: Model | str | Path
    """An open model, or a name or file that `numclip.load` opens."""
    data: str
    """Labelled faces, such as `utkface:PATH` or `table:FILE.csv`."""
    split: str | None = None
    """train, val, calibration, test or all; None: test if the data set has splits, else all."""
    detector: str = DEFAULT_DETECTOR
    """The face detector."""
    device: str = "auto"
    """Device of a model that is given by name or file."""
    threads: int | None = None
    """CPU threads of such a model; None: chosen by the inference library."""
    stress: bool = False
    """Also measure on degraded copies of the pictures."""
    looks: int = 1
    """Also measure the gates after this many simulated looks at each face; a look is one model call on one picture of it."""
    identity: bool = False
    """Measure how well the outputs identify people; the data names them in a column `subject`."""
    report_dir: Path | None = None
    """Folder for report.md, report.json and plots; None: write no report."""
    model_name: str | None = None
    """Name of an open model in the report; None: the name in its spec."""


def evaluate(options: EvaluateOptions) -> Evaluation | BandEvaluation:
    """Measure a model on labelled faces; returns a BandEvaluation if the labels are bands.

    Raises UsageError, ModelError, DataError, DetectorError, OutputError.
    """
    if options.looks < 1:
        raise UsageError(f"expected --looks to be at least 1, got {options.looks}")
    check_folder(options.report_dir)
    model, name = _opened(options)
    dataset = split_as_trained(open_data(options.data), model.spec.provenance.training)
    split = options.split or dataset.default_split
    chosen = dataset.select(split)
    if chosen.banded and (options.stress or options.looks > 1 or options.identity):
        raise UsageError(
            f"--stress, --looks and --identity need exact labels, but {options.data} has bands; leave them out"
        )
    predictions = predict_dataset(model, chosen, options.detector)
    if chosen.banded:
        banded = summarise_bands(predictions, name, options.data, split, options.detector)
        if options.report_dir is not None:
            write_band_report(options.report_dir, banded)
        return banded
    result = summarise(predictions, name, options.data, split, options.detector)
    if options.stress:
        result = replace(result, stress=stress_rows(model, predictions.faces))
    if options.looks > 1:
        result = replace(result, gates=(*result.gates, *track_rows(model, predictions.faces, options.looks)))
    if options.identity:
        result = replace(result, identity=identity(predictions))
    if options.report_dir is not None:
        write_report(options.report_dir, result, predictions)
    return result


def metric_of(model: Model, dataset: Dataset) -> Metric:
    """One entry of a spec's `metrics`: the main figures on the test split (without one on val or calibration, and without splits on all faces), and by band."""
    dataset = split_as_trained(dataset, model.spec.provenance.training)
    here = {sample.split for sample in dataset.samples}
    split = next((name for name in ("test", "val", "calibration") if name in here), "all")
    predictions = predict_dataset(model, dataset.select(split))
    return metric(dataset.short_name, split, predictions.faces, predictions.values, model.spec.task)


def metric(data: str, split: str, faces: FaceCrops, values: Floats, task: TaskSpec) -> Metric:
    """The main figures of values [N] against the faces' labels: overall, and by true value in bands of the labels or of the task."""
    ends = faces.ends
    signed = signed_distance(values, ends)
    exact = bool((ends[:, 0] == ends[:, 1]).all())
    starts = band_edges(task) if exact else sorted(set(ends[:, 0].tolist()))
    rows: list[Band] = []
    for low, high in pairwise((*starts, math.inf)):
        inside = (ends[:, 0] >= low) & (ends[:, 0] < high)
        if inside.any():
            rows.append(Band(low, None if math.isinf(high) else high, int(inside.sum()), *_errors(signed[inside])))
    mae, bias = _errors(signed)
    return Metric(
        data,
        split,
        len(signed),
        len(faces.skipped),
        mae,
        round(float((np.abs(signed) <= 5).mean()), 4),
        bias,
        tuple(rows),
    )


def _errors(signed: Floats) -> tuple[float, float]:
    """The mean absolute and the mean error."""
    return round(float(np.abs(signed).mean()), 4), round(float(signed.mean()), 4)


def _opened(options: EvaluateOptions) -> tuple[Model, str]:
    """The model, and its name in the report."""
    if isinstance(options.model, Model):
        return options.model, options.model_name or options.model.spec.name
    return load(resolve(options.model), options.device, options.threads), str(options.model)
