"""Calibrated intervals from a small table of residual quantiles, fitted on labelled faces and applied with a few lines of numpy.

The table contains quantiles of (true value - predicted value) / difficulty, at many levels and for several predicted values;
between them it is interpolated. A face's difficulty is the expected size of its error. It grows with the disagreement between
the words. It is multiplied by the larger of two factors, both measured on altered copies of the calibration's faces: one for lost
detail, by the crop's sharpness, and one for an unfamiliar face (behind a mask or dark glasses, say), by a projection of the
embedding. Read as one function of the true value, the table is a conformal predictive distribution: intervals at any level and
the probability of passing any threshold come from the same numbers. Sources: Vovk, Gammerman, Shafer, "Algorithmic Learning in
a Random World" (split conformal); Papadopoulos et al. 2008 (normalised residuals); Vovk et al. 2019 (conformal predictive
systems); Guan 2023 (localised weights).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ...errors import ModelError, UsageError
from .fields import Fields, Json
from .task import TaskSpec

Floats = npt.NDArray[np.float64]
WIDENINGS = (
    "sharpness",
    "widening",
    "direction",
    "unfamiliarity",
    "unfamiliar_widening",
)  # fields that a table may lack


@dataclass(frozen=True, eq=False)
class ConformalTable:
    """Quantiles of (true value - predicted value) / difficulty, by predicted value and level."""

    knots: Floats  # [M] rising predicted values, in the task's unit
    levels: Floats  # [L] rising, in (0, 1)
    quantiles: Floats  # [M, L] rising along L
    base: float  # difficulty = (base + slope * spread) * the larger widening, in the task's unit
    slope: float
    temperature: float = 1.0  # divides the logits, so that a word's probability is how often it is right
    offset: float = 0.0  # added to the model's value, in the task's unit; a site's own
    sharpness: Floats = field(default_factory=lambda: np.zeros(1))  # [W] rising, log energy share
    widening: Floats = field(default_factory=lambda: np.ones(1))  # [W] >= 1, falling
    direction: Floats = field(
        default_factory=lambda: np.zeros(0)
    )  # [D] unfamiliarity = embedding @ direction; D = 0: none
    unfamiliarity: Floats = field(default_factory=lambda: np.zeros(1))  # [U] rising
    unfamiliar_widening: Floats = field(default_factory=lambda: np.ones(1))  # [U] >= 1, rising

    @staticmethod
    def from_json(fields: Fields) -> ConformalTable:
        """Read and check a table; raises ModelError naming the field that is wrong."""
        number, numbers = fields.number, fields.numbers
        table = replace(
            ConformalTable(*quantiles_from_json(fields), base=number("base"), slope=number("slope")),
            **{n: got for n in ("temperature", "offset") if (got := fields.maybe(n, number)) is not None},
            **{n: np.asarray(got) for n in WIDENINGS if (got := fields.maybe(n, numbers)) is not None},
        )
        table.check()
        return table

    def check(self) -> None:
        """Raise ModelError naming the first field whose value no fit can produce."""
        holds = {
            "knots": self.knots.ndim == 1 and len(self.knots) > 0 and _rises(self.knots),
            "levels": self.levels.ndim == 1 and len(self.levels) > 0 and _rises(np.array([0, *self.levels, 1])),
            "quantiles": self.quantiles.shape == (len(self.knots), len(self.levels))
            and bool((np.diff(self.quantiles) >= 0).all()),
            "sharpness": self.sharpness.ndim == 1 and len(self.sharpness) > 0 and _rises(self.sharpness),
            "widening": self.widening.shape == self.sharpness.shape
            and self.widening.min(initial=1) >= 1
            and bool((np.diff(self.widening) <= 0).all()),
            "direction": self.direction.ndim == 1,
            "unfamiliarity": self.unfamiliarity.ndim == 1
            and len(self.unfamiliarity) > 0
            and _rises(self.unfamiliarity),
            "unfamiliar_widening": self.unfamiliar_widening.shape == self.unfamiliarity.shape
            and self.unfamiliar_widening.min(initial=1) >= 1
            and bool((np.diff(self.unfamiliar_widening) >= 0).all()),
            "base": self.base > 0,
            "slope": self.slope >= 0,
            "temperature": self.temperature > 0,
            "offset": True,
        }
        for name, holding in holds.items():
            if not (holding and np.isfinite(getattr(self, name)).all()):
                raise ModelError(
                    f"spec field calibration.{name}: expected values that numclip calibrate writes, got others; calibrate again"
                )

    def to_json(self) -> dict[str, Json]:
        """The fields as plain lists."""
        return {name: np.asarray(value).tolist() for name, value in asdict(self).items()}

    def rounded(self) -> ConformalTable:
        """The table rounded to 5 digits, as it is stored."""
        return replace(self, **{name: np.round(value, 5) for name, value in asdict(self).items()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConformalTable) and self.to_json() == other.to_json()

    def correct(self, value: Floats, probabilities: Floats, task: TaskSpec) -> tuple[Floats, Floats]:
        """Apply the site's offset and the temperature to the graph's values [N] and probabilities [N, K]."""
        shifted = (value + self.offset).clip(task.low, task.high) if self.offset else value
        return shifted, tempered(probabilities, self.temperature)

    def difficulty(
        self, value: Floats, probabilities: Floats, sharpness: Floats, embedding: Floats, task: TaskSpec
    ) -> Floats:
        """The expected size [N] of each error, (base + slope * spread) * the larger widening, for corrected values."""
        return (self.base + self.slope * spread(value, probabilities, task)) * self.widened(sharpness, embedding)

    def widened(self, sharpness: Floats, embedding: Floats) -> Floats:
        """The factor [N] by which intervals are widened: the larger of those for lost detail and for an unfamiliar face.

        sharpness: [N] of the crops. embedding: [N, D], L2-normalised; D = 0 if the graph has none.
        """
        factor = np.interp(sharpness, self.sharpness, self.widening)
        if len(self.direction):
            unfamiliar = np.interp(embedding @ self.direction, self.unfamiliarity, self.unfamiliar_widening)
            factor = np.maximum(factor, unfamiliar)
        return factor

    def check_level(self, level: float) -> float:
        """The level of an interval, if this table has its ends; raises UsageError naming the highest such level."""
        most = float(min(1 - 2 * self.levels[0], 2 * self.levels[-1] - 1))
        if level > most + 1e-9:
            raise UsageError(
                f"expected an interval level of at most {most:g}, the highest that this model is calibrated for, got {level:.10g}; "
                "give a lower one"
            )
        return level

    def quantile(self, value: Floats, difficulty: Floats, level: float) -> Floats:
        """The value [N] that the true value stays below with probability `level`."""
        if not 0 < level < 1:
            raise ValueError(f"expected a level between 0 and 1, got {level}")
        at_knots = np.array([np.interp(level, self.levels, row) for row in self.quantiles])  # [M]
        return value + difficulty * np.interp(value, self.knots, at_knots)

    def interval(self, value: Floats, difficulty: Floats, level: float, task: TaskSpec) -> Floats:
        """The central interval [N, 2] that contains the true value with probability `level`, clipped to the task's range."""
        ends = [self.quantile(value, difficulty, (1 - level) / 2), self.quantile(value, difficulty, (1 + level) / 2)]
        return np.stack(ends, axis=1).clip(task.low, task.high)

    def at_least(self, value: Floats, difficulty: Floats, threshold: float) -> Floats:
        """The probability [N] that the true value is at least `threshold`, limited to the table's outermost levels."""
        z = (threshold - value) / difficulty  # [N]
        below = np.stack([np.interp(z, row, self.levels) for row in self.quantiles])  # [M, N] P(truth < threshold)
        place = np.interp(value, self.knots, np.arange(len(self.knots)))
        low = np.minimum(place.astype(np.intp), len(self.knots) - 1)
        high = np.minimum(low + 1, len(self.knots) - 1)
        part = place - low
        each = np.arange(len(value))
        return 1 - ((1 - part) * below[low, each] + part * below[high, each])


def quantiles_from_json(fields: Fields) -> tuple[Floats, Floats, Floats]:
    """Read knots [M], levels [L] and quantiles [M, L]."""
    rows = fields.rows("quantiles")
    if len({len(row) for row in rows}) != 1:
        raise fields.wrong("quantiles", "rows of one length", [len(row) for row in rows])
    return np.asarray(fields.numbers("knots")), np.asarray(fields.numbers("levels")), np.asarray(rows)


def _rises(row: Floats) -> bool:
    return bool((np.diff(row) > 0).all())


def tempered(probabilities: Floats, temperature: float) -> Floats:
    """The softmax [N, K] of the same logits divided by a temperature."""
    if temperature == 1:
        return probabilities
    logits = np.log(probabilities.clip(1e-12)) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return raised / raised.sum(axis=1, keepdims=True)


def words_below(probabilities: Floats, number: Floats | float, task: TaskSpec) -> Floats:
    """The probability [N], from the words' probabilities [N, K] alone, of a value below a number or numbers [N]; spread evenly
    within each bin."""
    edges = np.asarray(task.bin_edges)
    inside = (np.asarray(number)[..., None] - edges[:-1]) / np.diff(edges)  # [K] or [N, K] share of each bin below
    return (probabilities * inside.clip(0, 1)).sum(axis=1)


def log_odds(probabilities: Floats, threshold: float, task: TaskSpec) -> Floats:
    """The log odds [N], from the words' probabilities [N, K] alone, that the true value is at least `threshold`; at most a million
    to one."""
    below = words_below(probabilities, threshold, task).clip(1e-6, 1 - 1e-6)
    return np.log1p(-below) - np.log(below)


def spread(value: Floats, probabilities: Floats, task: TaskSpec) -> Floats:
    """The root mean square distance [N] of the bin centers from the value, weighted by the probabilities [N, K]."""
    distance = np.asarray(task.bin_centers)[None] - value[:, None]  # [N, K]
    return np.sqrt((probabilities * distance**2).sum(axis=1))
