"""Measures for labels that are bands: the share inside the band, inside it or a neighbouring one, and the distance to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import DataError
from ...runtime.tables import markdown_table
from .distance import signed_distance
from .measures import LEVEL, Estimate, Judged, Mask, Rate, measure
from .predictor import Predictions
from .summary import LEVELS, Measured, group_masks

Floats = npt.NDArray[np.float64]
Range = tuple[float, float]


@dataclass(frozen=True)
class BandFigures:
    """The figures of faces whose labels are bands; None if the model is not calibrated."""

    n: int
    within: Rate  # estimated inside the band
    near: Rate  # inside it or a neighbouring band
    below: Rate  # estimated below the band
    above: Rate  # estimated above the band
    distance: Estimate  # mean distance to the band, in the task's unit (so are bias and width)
    bias: Estimate  # mean signed distance, negative below the band
    meets: Rate | None  # the interval at LEVEL overlaps the band
    holds: Rate | None  # the interval contains the whole band
    width: Estimate | None  # mean width of these intervals

    def to_json(self) -> dict[str, object]:
        """One flat object: n, then each figure and its 95 % interval."""
        named: dict[str, Estimate | None] = {
            "within_band": self.within.share,
            "within_one_band": self.near.share,
            "below_band": self.below.share,
            "above_band": self.above.share,
            "distance": self.distance,
            "bias": self.bias,
            "interval_meets_band": self.meets and self.meets.share,
            "interval_holds_band": self.holds and self.holds.share,
            "width": self.width,
        }
        row: dict[str, object] = {"n": self.n}
        for name, figure in named.items():
            row |= {name: figure and figure.value, f"{name}_95": figure and figure.ends}
        return row


@dataclass(frozen=True)
class BandRow:
    """The faces whose label is one band."""

    low: float  # its first number, in the task's unit
    high: float | None  # its last number; None: no upper end
    figures: BandFigures

    @property
    def name(self) -> str:
        """`10-19`, `70+`."""
        return f"{self.low:g}+" if self.high is None else f"{self.low:g}-{self.high:g}"


@dataclass(frozen=True)
class BandEvaluation(Measured):
    """The result of `numclip evaluate` on labels that are bands. The report's JSON has these names."""

    overall: BandFigures
    meets: dict[str, float | None]  # level: share of faces whose interval overlaps the band; None if not calibrated
    holds: dict[str, float | None]  # level: share of faces whose interval contains the whole band
    width: dict[str, float | None]  # level: mean width, in the task's unit
    bands: tuple[BandRow, ...]
    groups: dict[str, dict[str, BandFigures]]  # column: value: figures

    @property
    def n(self) -> int:
        """Faces measured; n + skipped is the split's size."""
        return self.overall.n

    def named_rows(self) -> list[tuple[str, BandFigures]]:
        """Every row with its printed name: all, the bands, then groups."""
        rows = [("all", self.overall), *((band.name, band.figures) for band in self.bands)]
        for column, members in self.groups.items():
            rows += [(f"{column} {value}", figures) for value, figures in members.items()]
        return rows

    def to_json(self) -> dict[str, object]:
        """The report as one JSON object."""
        names = ("model", "data", "split", "detector", "n", "skipped")
        return {
            **{name: getattr(self, name) for name in names},
            "labels": "bands",
            **{k: v for k, v in self.overall.to_json().items() if k != "n"},
            "meets": self.meets,
            "holds": self.holds,
            "width_by_level": self.width,
            "bands": [{"low": b.low, "high": b.high, **b.figures.to_json()} for b in self.bands],
            "groups": {c: {v: f.to_json() for v, f in members.items()} for c, members in self.groups.items()},
        }


def summarise_bands(
    predictions: Predictions, model: str = "", data: str = "", split: str = "", detector: str = ""
) -> BandEvaluation:
    """Measure a model's outputs for one data set; the strings name them in the report. Raises DataError for mixed labels."""
    readings, ends = predictions.readings, predictions.faces.ends
    if (ends[:, 0] == ends[:, 1]).any():
        raise DataError(
            f"{data or 'these faces'}: expected either exact labels or bands, got both; measure them separately"
        )
    known = sorted({(low, high) for low, high in ends.tolist()})
    calibrated = readings.spec.calibration is not None
    intervals = {f"{lv:g}": readings.interval(lv).astype(np.float64) if calibrated else None for lv in LEVELS}

    def figures(chosen: Mask) -> BandFigures:
        interval = intervals[f"{LEVEL:g}"]
        return _figures(predictions.values[chosen], ends[chosen], known, None if interval is None else interval[chosen])

    masks = {band: (ends == band).all(axis=1) for band in known}
    return BandEvaluation(
        model,
        data,
        split,
        detector,
        readings.spec.task.unit,
        len(predictions.faces.skipped),
        figures(np.ones(len(ends), np.bool_)),
        {level: None if i is None else _share(_meets(i, ends)) for level, i in intervals.items()},
        {level: None if i is None else _share(_holds(i, ends)) for level, i in intervals.items()},
        {level: None if i is None else round(float((i[:, 1] - i[:, 0]).mean()), 4) for level, i in intervals.items()},
        tuple(BandRow(low, high if np.isfinite(high) else None, figures(masks[low, high])) for low, high in known),
        {
            column: {value: figures(mask) for value, mask in members.items()}
            for column, members in group_masks(predictions.faces).items()
        },
    )


def _figures(values: Floats, ends: Floats, known: list[Range], interval: Floats | None) -> BandFigures:
    """Measure N >= 1 faces; known: all bands of the data set, ascending."""
    signed = signed_distance(values, ends)
    around = np.array([_with_neighbours((low, high), known) for low, high in ends.tolist()])
    means = measure(Judged(signed, ends[:, 0], width=None if interval is None else interval[:, 1] - interval[:, 0]))
    return BandFigures(
        len(values),
        Rate.of(_inside(values, ends)),
        Rate.of(_inside(values, around)),
        Rate.of(values < ends[:, 0]),
        Rate.of(values >= ends[:, 1] + 1),
        means.mae,
        means.bias,
        None if interval is None else Rate.of(_meets(interval, ends)),
        None if interval is None else Rate.of(_holds(interval, ends)),
        means.width,
    )


def _with_neighbours(band: Range, known: list[Range]) -> Range:
    """The range from the start of the band before to the end of the band after."""
    at = known.index(band)
    return known[max(0, at - 1)][0], known[min(len(known) - 1, at + 1)][1]


def _inside(values: Floats, ends: Floats) -> Mask:
    return (values >= ends[:, 0]) & (values < ends[:, 1] + 1)


def _meets(interval: Floats, ends: Floats) -> Mask:
    """Whether [N] intervals [N, 2] and bands [N, 2] overlap."""
    return (interval[:, 0] < ends[:, 1] + 1) & (interval[:, 1] >= ends[:, 0])


def _holds(interval: Floats, ends: Floats) -> Mask:
    """Whether [N] intervals [N, 2] contain whole bands [N, 2], from the first to the last whole number; never one without an upper end."""
    return (interval[:, 0] <= ends[:, 0]) & (interval[:, 1] >= ends[:, 1])


def _share(holds: Mask) -> float:
    return round(float(holds.mean()), 4)


BAND_NOTE = (
    "The labels are bands of ages. Brackets contain 95 % intervals. Inside: the value is within the band, from its first year to "
    "the end of its last. Older: the value is above the band. Distance: from the value to the band, 0 inside it."
)


def band_lines(result: BandEvaluation) -> list[str]:
    """Markdown: the figures over all faces, by band and by group."""
    lines = [
        f"Inside the band **{_said(result.overall.within.share)}**, inside it or the next **{_said(result.overall.near.share)}**, "
        f"mean distance {_number(result.overall.distance)} {result.unit}, bias {_number(result.overall.bias, '+.2f')}."
    ]
    shares = "; ".join(
        f"{float(level):.0%} overlap {meets:.1%} of the bands and contain {holds:.1%} of them, mean width {width:.1f}"
        for level, meets in result.meets.items()
        if meets is not None
        and (holds := result.holds[level]) is not None
        and (width := result.width[level]) is not None
    )
    lines.append(f"Intervals: {shares}." if shares else "Not calibrated, so no intervals.")
    head = [
        "band or group",
        "n",
        "inside",
        "inside or next",
        "older",
        "distance",
        "bias",
        "90 % meets",
        "contains",
        "width",
    ]
    body = [
        [
            name,
            str(row.n),
            *(_said(rate.share) for rate in (row.within, row.near, row.above)),
            _number(row.distance),
            _number(row.bias, "+.2f"),
            *("" if rate is None else _said(rate.share) for rate in (row.meets, row.holds)),
            "" if row.width is None else _number(row.width, ".1f"),
        ]
        for name, row in result.named_rows()
    ]
    return [*lines, "", BAND_NOTE, "", markdown_table(head, body, texts=1)]


def _said(share: Estimate | None) -> str:
    return "" if share is None else f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def _number(figure: Estimate, how: str = ".2f") -> str:
    return f"{figure.value:{how}} ({figure.low:{how}} to {figure.high:{how}})"
