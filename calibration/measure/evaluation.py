"""Measure a model on labelled faces: overall, by band of the value, by group and by gate.

Every face is detected and cut by the model's crop contract, as in a live run. Faces without a detection are counted as
`skipped`, never dropped in silence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import UsageError
from ...runtime.contract.measured import Band, Metric
from ...runtime.contract.model_file import resolve
from ...runtime.sessions.model import Model, load
from ..data.crop_cache import DEFAULT_DETECTOR
from ..data.datasets import Dataset, open_data
from .predictor import predict_dataset
from .report import write_report
from .stress import stress_rows, track_rows
from .summary import Evaluation, summarise


@dataclass(frozen=True)
class EvaluateOptions:
    """What `evaluate` measures."""

    model: Model | str | Path
    """An open model, or a name or file that `numclip.load` opens."""
    data: str
    """Labelled faces, as `utkface:PATH` or `table:FILE.csv`."""
    split: str | None = None
    """train, val, calibration, test or all; None: test where the data set has splits, else all."""
    detector: str = DEFAULT_DETECTOR
    """The face detector."""
    device: str = "auto"
    """Where a model that is given by name or file runs."""
    threads: int | None = None
    """CPU threads of such a model; None: the library's choice."""
    stress: bool = False
    """Measure on worse pictures of the same faces too."""
    looks: int = 1
    """Judge the gates after so many simulated looks at each face too."""
    report_dir: Path | None = None
    """A folder for report.md, report.json and plots; None: nothing is written."""
    model_name: str | None = None
    """What the report calls an open model; None: the name in its spec."""


def evaluate(options: EvaluateOptions) -> Evaluation:
    """Measure a model on labelled faces. Raises UsageError, ModelError, DataError, DetectorError, OutputError."""
    if options.looks < 1:
        raise UsageError(f"expected --looks of 1 or more, got {options.looks}")
    dataset = open_data(options.data)
    split = options.split or dataset.default_split
    chosen = dataset.select(split)
    model, name = _opened(options)
    predictions = predict_dataset(model, chosen, options.detector)
    result = summarise(predictions, name, options.data, split, options.detector)
    if options.stress:
        result = replace(result, stress=stress_rows(model, predictions.faces))
    if options.looks > 1:
        result = replace(result, gates=(*result.gates, *track_rows(model, predictions.faces, options.looks)))
    if options.report_dir is not None:
        write_report(options.report_dir, result, predictions)
    return result


def metric_of(model: Model, dataset: Dataset) -> Metric:
    """One line of a spec's `metrics`: the main figures on the test split, or on all faces where there is none, and by band."""
    split = dataset.split_or_all("test")
    found = summarise(predict_dataset(model, dataset.select(split)))
    bands = tuple(Band(b.low, b.high, b.figures.n, b.figures.mae.value, b.figures.bias.value) for b in found.bands)
    return Metric(dataset.short_name, split, found.n, found.skipped, found.mae, found.cs5, found.bias, bands)


def _opened(options: EvaluateOptions) -> tuple[Model, str]:
    """The model, and what the report calls it."""
    if isinstance(options.model, Model):
        return options.model, options.model_name or options.model.spec.name
    return load(resolve(options.model), options.device, options.threads), str(options.model)
