"""Fit intervals and gates on labelled faces, and write a model file that contains them; the graph is not changed.

Use faces that the model was neither trained nor selected on and that resemble those it will see. Over faces of that kind, the
intervals then contain the true value as often as they state. A layer adds a correction for one site (an offset and quantiles
of its own), fitted on 50 to 200 faces from there. It can be removed again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DataError, ModelError, UsageError
from ..runtime.contract.calibration import Calibration, FacesUsed, Gates, Layer
from ..runtime.contract.conformal_table import ConformalTable, log_odds
from ..runtime.contract.model_file import graph_sha256, read_spec, refuse_shipped, resolve, write_spec
from ..runtime.contract.sharpness import sharpness
from ..runtime.contract.spec import ModelSpec, TaskSpec
from ..runtime.faces.detect import WHOLE
from ..runtime.places import check_output
from ..runtime.sessions.model import Model, check_calibration
from ..runtime.sessions.opening import open_session
from .conformal import (
    MIN_FACES,
    Altered,
    LabelledReadings,
    LeftOut,
    cross_coverage,
    fit_layer,
    fit_table,
    left_out,
    look_correlation,
    source_of,
)
from .data.crop_cache import DEFAULT_DETECTOR, Crops, FaceCrops
from .data.datasets import Dataset, open_data
from .data.protocols import split_as_trained
from .gate_limits import fit_gates
from .measure.degrade import ALTERED, LADDER, Degradation, second_look
from .measure.predictor import dataset_faces, predict
from .measure.summary import LEVELS

LADDER_FACES = 300  # degraded copies per degree of degradation
ALTERED_FACES = 2000
EACH_OF = 3  # each face gets every third alteration
FEWEST_ALTERED = 200  # with fewer, no widening of unfamiliar faces is fitted
LOOK_FACES, LOOKS = 200, 8
FEW_SITE_FACES = 50
GOLDEN = (math.sqrt(5) - 1) / 2  # the fractional parts of its multiples are spread evenly over [0, 1)
Floats = npt.NDArray[np.float64]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CalibrateOptions:
    """What `calibrate` fits, and where it writes."""

    model: str | Path
    """A shipped model's name, or an .onnx file."""
    data: Sequence[str]
    """Labelled faces, such as `utkface:PATH`."""
    split: str = "calibration"
    """The split to fit on; use `all` if the data sets have no splits."""
    detector: str = DEFAULT_DETECTOR
    """The face detector that the model will be used with."""
    layer: str | None = None
    """Add a correction for one site under this name: its own offset and quantiles; None: fit the calibration itself."""
    every_set: bool = False
    """Fit wider intervals that hold on each data set by itself, instead of on all of them together."""
    out: Path | None = None
    """File to write; may be the model's own file. None: NAME.calibrated.onnx in the current folder."""


@dataclass(frozen=True)
class Calibrated:
    """A calibration, and the file that contains it."""

    out: Path
    spec: ModelSpec  # of the written file
    n: int  # labelled faces of the calibration, or of the layer that was added
    left_out: Mapping[str, LeftOut] = field(default_factory=dict[str, LeftOut])  # each data set, by the others' table

    @property
    def calibration(self) -> Calibration:
        """The calibration in the spec."""
        assert self.spec.calibration is not None
        return self.spec.calibration


def calibrate(options: CalibrateOptions) -> Calibrated:
    """Run the model on the faces, fit its calibration, and write the file.

    Raises UsageError, ModelError, DataError, DetectorError, OutputError.
    """
    path = resolve(options.model)
    out = output_for(path, options.out)
    check_output(out)
    spec = read_spec(path)
    graph = Model(spec.with_calibration(None), open_session(path, spec))  # replaces any existing calibration
    apart: Mapping[str, LeftOut] = {}
    if options.layer is not None:
        check_calibration(path, spec)
        fitted, n = _with_layer(graph, spec, options, options.layer)
    else:
        fitted, n, apart = _calibration(graph, spec, options, graph_sha256(path))
    made = spec.with_calibration(fitted)
    write_spec(path, made, out)
    return Calibrated(out, made, n, apart)


def remove_layer(model: str | Path, name: str, out: Path | None = None) -> Calibrated:
    """Write the model without the layer `name` to `out`, or to NAME.calibrated.onnx in the current folder.

    Raises UsageError if the model has no such layer, ModelError, OutputError.
    """
    path = resolve(model)
    out = output_for(path, out)
    spec = read_spec(path)
    layer = None if spec.calibration is None else spec.calibration.layer
    if spec.calibration is None or layer is None or layer.name != name:
        there = "none" if layer is None else layer.name
        raise UsageError(f"this model has no layer {name} (its layers: {there}); give the name of one of them")
    base = replace(spec.calibration, layers=spec.calibration.layers[:-1])
    made = spec.with_calibration(base)
    write_spec(path, made, out)
    return Calibrated(out, made, base.n)


def output_for(path: Path, out: Path | None) -> Path:
    """The file to write for a model; raises UsageError for the files that ship with numclip."""
    out = Path(f"{path.stem.removesuffix('.calibrated')}.calibrated.onnx") if out is None else out
    refuse_shipped(out)
    return out


def _calibration(
    graph: Model, spec: ModelSpec, options: CalibrateOptions, sha256: str
) -> tuple[Calibration, int, dict[str, LeftOut]]:
    """The calibration of the graph itself, the number of its faces, and each data set measured with a table fitted on the others."""
    _refuse_a_layer(spec, options.model)
    task = spec.task
    data, sets, sources = _labelled_faces(graph, options)
    faces, of = LabelledReadings.join(sets), source_of(sets) if options.every_set else None
    table = fit_table(faces, task, _degraded(graph, data), of, _altered(graph, data))
    named = {used.data: part for used, part in zip(sources, sets, strict=True)}
    judged_alone = len(named) == len(sets) and min(len(part.labels) for part in sets) >= MIN_FACES
    apart = left_out(named, task, every_set=options.every_set) if judged_alone else {}
    fitted = Calibration(
        base_table=table.rounded(),
        graph_sha256=sha256,
        n=len(faces.labels),
        data=sources,
        date=_today(),
        coverage=cross_coverage(faces, task, LEVELS, of),
        base_gates=_gates(faces, table, task, data),
        look_correlation=round(_look_correlation(graph, data), 4),
    )
    return fitted, len(faces.labels), apart


def _with_layer(graph: Model, spec: ModelSpec, options: CalibrateOptions, name: str) -> tuple[Calibration, int]:
    """The calibration with a site's layer on top, and the number of faces that the layer was fitted on."""
    base, task = spec.calibration, spec.task
    if base is None:
        raise ModelError(
            f"{options.model}: a layer needs a calibrated model; first run numclip calibrate without --layer"
        )
    _refuse_a_layer(spec, options.model)
    data, sets, sources = _labelled_faces(graph, options)
    faces = LabelledReadings.join(sets)
    table, n = fit_layer(faces, base.table, task), len(faces.labels)
    layer = Layer(name, table.rounded(), _gates(faces, table, task, data), n, sources, _today())
    if n < FEW_SITE_FACES:
        _log.warning("warning: a layer from %d faces is imprecise; use %d to 200", n, FEW_SITE_FACES)
    return base.with_layer(layer), n


def _refuse_a_layer(spec: ModelSpec, name: str | Path) -> None:
    layer = None if spec.calibration is None else spec.calibration.layer
    if layer is not None:
        raise UsageError(
            f"{name}: already has the layer {layer.name}; first run numclip calibrate with --remove-layer {layer.name}"
        )


@dataclass(frozen=True, eq=False)
class Known:
    """Faces and what is known of their labels."""

    faces: FaceCrops
    lows: Floats  # [N] in the task's unit
    highs: Floats  # [N]; the same where a label is exact


def known_labels(data: Sequence[FaceCrops], names: Sequence[str]) -> list[Known]:
    """The labels that a calibration uses, per data set; raises DataError if a data set has none that it can use.

    If all labels are bands, they are used as bands, and an interval has to contain a whole one. Beside exact labels that would
    widen every interval by the width of a band; there each face gets one whole age of its band, so that the ages of a band occur
    equally often. A band without an upper end can neither be contained nor filled, so its faces are left out.
    """
    closed = [faces.take([s for s in faces.samples if math.isfinite(s.ends[1])]) for faces in data]
    for name, faces in zip(names, closed, strict=True):
        if not faces.samples:
            raise DataError(
                f"{name}: has neither exact labels nor bands with an upper end, so it cannot be calibrated on; leave it out"
            )
    mixed = any(s.band_high is None for faces in closed for s in faces.samples)
    found: list[Known] = []
    for faces in closed:
        low, high = faces.ends.T
        if mixed:
            place = np.arange(len(low)) * GOLDEN % 1  # evenly spread over every part of the row
            low = high = low + np.floor(place * (high - low + 1))
        found.append(Known(faces, low, high))
    return found


def _labelled_faces(
    graph: Model, options: CalibrateOptions
) -> tuple[list[Known], list[LabelledReadings], tuple[FacesUsed, ...]]:
    """The faces of each data set, the graph's outputs for them, and their record for the spec."""
    opened = [_chosen(graph.spec, text, options.split) for text in options.data]
    crops = [dataset_faces(graph, dataset, options.detector) for dataset in opened]
    data = known_labels(crops, [dataset.name for dataset in opened])
    read = [labelled(graph, part.faces.crops, part.lows, part.highs) for part in data]
    used = [FacesUsed(d.short_name, options.split, len(p.lows)) for d, p in zip(opened, data, strict=True)]
    return data, read, tuple(used)


def _chosen(spec: ModelSpec, text: str, split: str) -> Dataset:
    """The samples to fit on; raises DataError if they include pictures that trained the model."""
    whole, training = open_data(text), spec.provenance.training
    trained = training.get("data")
    if split in ("train", "all") and isinstance(trained, dict) and whole.short_name in trained:
        raise DataError(
            f"{text}: expected faces that did not train this model, got --split {split} of {whole.short_name}, which did; use --split "
            "calibration, val or test, or rename the file if it is another data set"
        )
    drawn = split_as_trained(whole, training)
    return drawn.select(split)


def labelled(graph: Model, crops: Crops, lows: Floats, highs: Floats | None = None) -> LabelledReadings:
    """The graph's outputs for these crops, together with their labels, or with the ends of their bands."""
    readings = predict(graph, crops)
    values, probabilities = readings.value.astype(np.float64), readings.probabilities.astype(np.float64)
    sharp = sharpness(np.asarray(crops))
    embeddings = readings.embedding.astype(np.float64)
    return LabelledReadings(values, probabilities, lows, sharp, lows if highs is None else highs, embeddings)


def _gates(faces: LabelledReadings, table: ConformalTable, task: TaskSpec, data: Sequence[Known]) -> Gates:
    """The gates; who is near a threshold is decided by whole bands, not by the ages drawn from them for the intervals."""
    values, words = table.correct(faces.values, faces.probabilities, task)
    low, high = np.concatenate([known.faces.ends for known in data]).T
    persons = [s.person(str(i)) for i, known in enumerate(data) for s in known.faces.samples]
    return fit_gates(lambda at: log_odds(words, at, task), values, low, high, task, np.array(persons))


def _degraded(graph: Model, data: list[Known]) -> LabelledReadings:
    """Every degree of degradation, each on other faces."""
    random = np.random.default_rng(0)
    parts: list[LabelledReadings] = []
    for rung in LADDER:
        for known in data:
            share = max(1, LADDER_FACES * len(known.lows) // sum(len(part.lows) for part in data))
            chosen = np.sort(random.permutation(len(known.lows))[:share])
            parts.append(labelled(graph, _changed(known, chosen, rung), known.lows[chosen], known.highs[chosen]))
    return LabelledReadings.join(parts)


def _altered(graph: Model, data: list[Known]) -> Altered | None:
    """At most ALTERED_FACES faces, each under every third alteration.

    None for too few faces, for pictures that are not cropped to faces, and for a graph without an embedding.
    """
    starts = np.cumsum([0, *(len(known.lows) for known in data)])
    if starts[-1] < FEWEST_ALTERED or graph.spec.graph.embedding_dim == 0 or WHOLE in graph.spec.crop.box_rules:
        return None
    chosen = np.sort(np.random.default_rng(0).permutation(starts[-1])[:ALTERED_FACES])
    parts: list[LabelledReadings] = []
    of: list[npt.NDArray[np.intp]] = []
    for number, alter in enumerate(ALTERED):
        group = chosen[
            chosen // 2 % EACH_OF == number % EACH_OF
        ]  # each face and its neighbour, one for fitting and one for measuring
        for known, start in zip(data, starts, strict=False):
            at = group[(group >= start) & (group < start + len(known.lows))] - start
            if len(at):
                parts.append(labelled(graph, _changed(known, at, alter), known.lows[at], known.highs[at]))
                of.append(at + start)
    return Altered(LabelledReadings.join(parts), np.concatenate(of))


def _changed(known: Known, chosen: npt.NDArray[np.intp], change: Degradation) -> npt.NDArray[np.uint8]:
    """The chosen faces, changed [N, S, S, 3]."""
    return np.stack([change(np.asarray(known.faces.crops[i])) for i in chosen])


def _look_correlation(graph: Model, data: list[Known]) -> float:
    """The correlation rho of the errors of simulated looks at the calibration's faces."""
    random = np.random.default_rng(0)
    errors: list[Floats] = []
    for known in data:
        share = max(2, LOOK_FACES * len(known.lows) // sum(len(part.lows) for part in data))
        chosen = np.sort(random.permutation(len(known.lows))[:share])
        looks = np.stack([second_look(np.asarray(known.faces.crops[i]), random) for i in chosen for _ in range(LOOKS)])
        values = predict(graph, looks).value.astype(np.float64).reshape(len(chosen), LOOKS)
        errors.append(values - (known.lows + known.highs)[chosen][:, None] / 2)
    return look_correlation(np.concatenate(errors))


def _today() -> str:
    return datetime.now(timezone.utc).date().isoformat()
