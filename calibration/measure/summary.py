"""The evaluation of a model on one data set, as one record: overall, by range of values, by group and by gate."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ...runtime.contract.spec import TaskSpec
from ..data.crop_cache import FaceCrops
from .identity import Identity
from .measures import Figures, GateRow, Judged, Widths, gate_rows, judge, measure, widths_at_equal_coverage
from .predictor import Predictions
from .stress import StressRow

Floats = npt.NDArray[np.float64]
LEVELS = (0.5, 0.8, 0.9, 0.95)
AGE_BANDS = (0.0, 13.0, 19.0, 35.0, 65.0)  # child, teenager, young, middle, older: half-open ranges


@dataclass(frozen=True)
class Band:
    """The faces whose value lies in [low, high)."""

    low: float  # in the task's unit
    high: float | None  # None: no upper end
    figures: Figures

    @property
    def name(self) -> str:
        """`13 to 19`, `65+`."""
        return f"{self.low:g}+" if self.high is None else f"{self.low:g} to {self.high:g}"

    def to_json(self) -> dict[str, object]:
        """The ends, then the figures."""
        return {"low": self.low, "high": self.high, **self.figures.to_json()}


@dataclass(frozen=True)
class Measured:
    """What was measured, with which model and data."""

    model: str  # as the user named it
    data: str
    split: str
    detector: str
    unit: str  # the task's
    skipped: int  # pictures without a detected face


@dataclass(frozen=True)
class Evaluation(Measured):
    """The result of `numclip evaluate`. The report's JSON has these names."""

    cs5: float  # share of faces within 5 units
    coverage: dict[str, float | None]  # level: share of faces inside; None if not calibrated
    width: dict[str, float | None]  # level: mean width, in the task's unit
    widths: Widths | None  # at equal coverage; None if not calibrated
    gates: tuple[GateRow, ...]
    overall: Figures
    bands: tuple[Band, ...]  # by true value
    bands_by_value: tuple[Band, ...]  # by estimated value
    groups: dict[str, dict[str, Figures]]  # column: value: figures
    stress: tuple[StressRow, ...] = ()
    identity: Identity | None = None

    @property
    def n(self) -> int:
        """Faces measured; n + skipped is the split's size."""
        return self.overall.n

    @property
    def mae(self) -> float:
        """Mean absolute error, in the task's unit."""
        return self.overall.mae.value

    @property
    def bias(self) -> float:
        """Mean of value - truth, in the task's unit."""
        return self.overall.bias.value

    def named_rows(self) -> list[tuple[str, Figures]]:
        """Every row with its printed name: ranges of the true value, then groups."""
        rows = [(band.name, band.figures) for band in self.bands]
        for column, members in self.groups.items():
            rows += [(f"{column} {value}", figures) for value, figures in members.items()]
        return rows

    def to_json(self) -> dict[str, object]:
        """The report as one JSON object."""
        report: dict[str, object] = {
            "model": self.model,
            "data": self.data,
            "split": self.split,
            "detector": self.detector,
            "n": self.n,
            "skipped": self.skipped,
            "mae": self.mae,
            "cs5": self.cs5,
            "bias": self.bias,
            "coverage": self.coverage,
            "width": self.width,
            "width_at_equal_coverage": None if self.widths is None else self.widths.to_json(),
            "gates": [row.to_json() for row in self.gates],
            "all": self.overall.to_json(),
            "bands": [band.to_json() for band in self.bands],
            "bands_by_value": [band.to_json() for band in self.bands_by_value],
            "groups": {c: {v: f.to_json() for v, f in members.items()} for c, members in self.groups.items()},
        }
        report |= {"stress": [row.to_json() for row in self.stress]} if self.stress else {}
        return report | ({} if self.identity is None else {"identity": self.identity.to_json()})


def summarise(
    predictions: Predictions, model: str = "", data: str = "", split: str = "", detector: str = ""
) -> Evaluation:
    """Measure a model's outputs for one data set; the strings name them in the report."""
    readings, labels, task = predictions.readings, predictions.labels, predictions.readings.spec.task
    faces = judge(readings, labels)
    calibrated = readings.spec.calibration is not None
    intervals = {f"{lv:g}": readings.interval(lv).astype(np.float64) if calibrated else None for lv in LEVELS}
    return Evaluation(
        model=model,
        data=data,
        split=split,
        detector=detector,
        unit=task.unit,
        skipped=len(predictions.faces.skipped),
        cs5=round(float((np.abs(faces.error) <= 5).mean()), 4),
        coverage={level: _share_inside(ends, labels) for level, ends in intervals.items()},
        width={level: _mean_width(ends) for level, ends in intervals.items()},
        widths=widths_at_equal_coverage(readings, labels),
        gates=tuple(gate_rows([readings], labels)),
        overall=measure(faces),
        bands=_bands(faces, labels, task),
        bands_by_value=_bands(faces, predictions.values, task),
        groups={
            column: {value: measure(faces.take(mask)) for value, mask in members.items()}
            for column, members in group_masks(predictions.faces).items()
        },
    )


def band_edges(task: TaskSpec) -> tuple[float, ...]:
    """The starts of the ranges of values: five for age, else the task's bins."""
    return AGE_BANDS if task.name == "age" else task.bin_edges[:-1]


def _bands(faces: Judged, by: Floats, task: TaskSpec) -> tuple[Band, ...]:
    bands: list[Band] = []
    for low, high in pairwise((*band_edges(task), float("inf"))):
        inside = (by >= low) & (by < high)
        if inside.any():
            bands.append(Band(low, None if np.isinf(high) else high, measure(faces.take(inside))))
    return tuple(bands)


def group_masks(faces: FaceCrops) -> dict[str, dict[str, npt.NDArray[np.bool_]]]:
    """The mask [N] of each (column, value). A column with a different value for almost every face (a name) is not a group."""
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
