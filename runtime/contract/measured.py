"""Measurements stored in a model file: errors on labelled faces, and differences between its files."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .fields import Fields, Json


@dataclass(frozen=True)
class Band:
    """The error, in the task's unit, on faces whose true value (or the start of whose band) lies in [low, high)."""

    low: float
    high: float | None  # None: no upper end
    n: int
    mae: float
    bias: float

    @staticmethod
    def from_json(fields: Fields) -> Band:
        """Read and check; raises ModelError naming the field."""
        number = fields.number
        band = Band(number("low"), fields.maybe("high", number), fields.whole("n"), number("mae"), number("bias"))
        fields.done()
        return band


@dataclass(frozen=True)
class Metric:
    """The error on one split of one data set. If a label is a band, the error is the distance to the band, 0 inside it."""

    data: str  # "utkface:utkface.tar"
    split: str
    n: int
    skipped: int  # pictures without a detected face
    mae: float  # mean absolute error, in the task's unit
    cs5: float  # share of faces with an error of at most 5 units
    bias: float  # mean error, in the task's unit
    bands: tuple[Band, ...] = ()  # by true value

    @staticmethod
    def from_json(fields: Fields) -> Metric:
        """Read and check; raises ModelError naming the field."""
        metric = Metric(
            data=fields.text("data"),
            split=fields.text("split"),
            n=fields.whole("n"),
            skipped=fields.whole("skipped"),
            mae=fields.number("mae"),
            cs5=fields.number("cs5"),
            bias=fields.number("bias"),
            bands=tuple(map(Band.from_json, fields.maybe("bands", fields.objects) or ())),
        )
        fields.done()
        return metric

    def to_json(self) -> dict[str, Json]:
        """The fields; `bands` only if there are any."""
        return {name: value for name, value in asdict(self).items() if name != "bands" or value}


@dataclass(frozen=True)
class ParityRow:
    """The difference between one file of a model and a reference, on the same n faces. None: not finite, or not measured."""

    unit: str  # of all differences: the task's
    n: int
    faces: str  # a description of them
    mean: float | None  # of |difference| between the values
    p99: float | None
    max: float | None
    against: str | None = None  # the reference: "PyTorch", or a file
    mae: float | None = None  # of the file, against the labels
    mae_change: float | None = None  # the file's MAE minus the reference's
    cosine: float | None = None  # the lowest cosine similarity between the two embeddings of a face
    not_finite: int | None = None  # NaN and Inf among the file's outputs

    @staticmethod
    def from_json(fields: Fields) -> ParityRow:
        """Read and check; raises ModelError naming the field."""
        figures = ("mean", "p99", "max", "mae", "mae_change", "cosine")
        row = ParityRow(
            unit=fields.text("unit"),
            n=fields.whole("n"),
            faces=fields.text("faces"),
            against=fields.maybe("against", fields.text),
            not_finite=fields.maybe("not_finite", fields.whole),
            **{name: fields.maybe(name, fields.number) for name in figures},
        )
        fields.done()
        return row
