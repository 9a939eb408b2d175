"""What is measured where labels are bands: the share inside the band, inside it or the next one, and the distance to it."""

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
    """What was measured on faces whose labels are bands; None where the model is not calibrated."""

    n: int
    within: Rate  # read inside the band
    near: Rate  # inside it or the next one on either side
    below: Rate  # read younger than the band begins
    above: Rate  # read older than it ends
    distance: Estimate  # mean distance to the band, in the task's unit, as bias and width
    bias: Estimate  # mean distance, below 0 where the value lies under the band
    meets: Rate | None  # the interval at LEVEL and the band have an age in common
    holds: Rate | None  # the interval contains the band whole
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
    high: float | None  # its last number; None: open
    figures: BandFigures

    @property
    def name(self) -> str:
        """`10-19`, `70+`."""
        return f"{self.low:g}+" if self.high is None else f"{self.low:g}-{self.high:g}"


@dataclass(frozen=True)
class BandEvaluation(Measured):
    """What `numclip evaluate` measured on labels that are bands. The report's JSON has these names."""

    overall: BandFigures
    meets: dict[str, float | None]  # level: share of faces whose interval meets the band; None where not calibrated
    holds: dict[str, float | None]  # level: share of faces whose interval contains it whole
    width: dict[str, float | None]  # level: mean width, in the task's unit
    bands: tuple[BandRow, ...]
    groups: dict[str, dict[str, BandFigures]]  # column: value: figures

    @property
    def n(self) -> int:
        """Faces measured; n + skipped is the split's size."""
        return self.overall.n

    def named_rows(self) -> list[tuple[str, BandFigures]]:
        """Every row by a name to print: all, the bands, then groups."""
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
    """Count a model's answers for one data set; the texts name them in the report. Raises DataError for mixed labels."""
    readings, ends = predictions.readings, predictions.faces.ends
    if (ends[:, 0] == ends[:, 1]).any():
        raise DataError(
            f"{data or 'these faces'}: expected labels that are all exact or all bands, got both; measure them apart"
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
    """Count N >= 1 faces; known: all bands of the data set, rising."""
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
    """From the beginning of the band before to the end of the one after."""
    at = known.index(band)
    return known[max(0, at - 1)][0], known[min(len(known) - 1, at + 1)][1]


def _inside(values: Floats, ends: Floats) -> Mask:
    return (values >= ends[:, 0]) & (values < ends[:, 1] + 1)


def _meets(interval: Floats, ends: Floats) -> Mask:
    """[N] whether intervals [N, 2] and bands [N, 2] have an age in common."""
    return (interval[:, 0] < ends[:, 1] + 1) & (interval[:, 1] >= ends[:, 0])


def _holds(interval: Floats, ends: Floats) -> Mask:
    """[N] whether intervals [N, 2] contain bands [N, 2] whole, from the first whole number to the last; no open one ever is."""
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
        f"{float(level):.0%} meet {meets:.1%} of the bands and contain {holds:.1%} whole, mean width {width:.1f}"
        for level, meets in result.meets.items()
        if meets is not None
        and (holds := result.holds[level]) is not None
        and (width := result.width[level]) is not None
    )
    lines.append(f"Intervals: {shares}." if shares else "Not calibrated: no intervals.")
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
