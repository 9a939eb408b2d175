"""The running estimate of a track: many looks become one value that settles, with an interval.

The estimate is a weighted mean of the looks' values. A look has more weight the better the face was seen, and less the further
its value is from the estimate. Old looks fade within FADE_S, if that covers at least 1 / (1 - FASTEST) looks. The errors of looks
at one face are correlated: a share rho of their variance is common to all (`numclip calibrate` measures it). So n looks have
the variance rho + (1 - rho) / n of a single one (Kish, "Survey Sampling", 1965), and the interval shrinks by the square root
of that; n is Kish's effective number, (sum w)^2 / sum w^2. A single look never moves the estimate out of its own interval. If
CHANGE_LOOKS looks in a row all disagree with the estimate, it is another person, and the estimate starts again from them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..contract.conformal_table import spread
from ..contract.readings import Reading, Readings
from ..contract.spec import ModelSpec

FADE_S = 10.0  # after this time a look's weight is 1 / e
FASTEST = 0.95  # but at each new look it keeps at least this share of its weight
MOVE_LEVEL = 0.9  # of the interval that one look cannot leave
CHANGE_LOOKS = 6
CHANGE_SCORE = 3.0  # distance in value / difficulty + distance of embeddings / EMBEDDING_UNIT
EMBEDDING_UNIT = 0.15  # 1 - cosine; looks at one face rarely exceed it, faces 10 years apart do

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrackReading:
    """The estimate for a track so far, with the same methods as a `Reading`."""

    mean: Reading  # value, probabilities and embedding averaged over the looks
    looks: float  # effective number behind it
    shrink: float  # the interval's width in units of one look's
    _intervals: dict[float, tuple[float, float]] = field(default_factory=lambda: {})  # cached until the next look

    @property
    def value(self) -> float:
        """The estimate, in the task's unit."""
        return self.mean.value

    @property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """[K] over the text bins."""
        return self.mean.probabilities

    @property
    def embedding(self) -> npt.NDArray[np.float32]:
        """[D], L2-normalised."""
        return self.mean.embedding

    @property
    def bin(self) -> str:
        """The word of the bin that holds the value."""
        return self.mean.bin

    @property
    def is_calibrated(self) -> bool:
        """Whether the model is calibrated, so that `interval` and `at_least` work."""
        return self.mean.is_calibrated

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Low and high in the task's unit; between them lies the true value with probability `level`."""
        if level not in self._intervals:
            low, high = self.mean.interval(level)
            around = self.value - self.shrink * (self.value - low), self.value + self.shrink * (high - self.value)
            self._intervals[level] = around
        return self._intervals[level]

    def at_least(self, threshold: float) -> float:
        """The probability that the true value is at least `threshold`."""
        return self.mean.at_least(self.value + (threshold - self.value) / self.shrink)

    def __repr__(self) -> str:
        return f"{self.mean!r} after {self.looks:.1f} looks"


class _Look(NamedTuple):
    weight: float
    numbers: Doubles  # [1 + 1 + K + D]: value, sharpness, probabilities, embedding


class RunningAge:
    """The running estimate of one track."""

    def __init__(self, spec: ModelSpec) -> None:
        self.shown: TrackReading | None = None
        self.people = 0  # number of different persons so far
        self.doubted = False  # the last look disagreed: another one soon will decide
        # rho; 1 if it was not measured: more looks then add no certainty
        self._correlation = 1.0 if spec.calibration is None else spec.calibration.look_correlation
        self._recent: deque[_Look] = deque(maxlen=CHANGE_LOOKS)
        self._sum = np.zeros(0)  # of weight * numbers
        self._weight = self._weight_squares = 0.0
        self._looked_s = 0.0

    def look(self, reading: Reading, quality: float, time_s: float) -> TrackReading:
        """Add a look at this time, of this quality (above 0, up to 1), and return the estimate."""
        fade = max(math.exp(-max(0.0, time_s - self._looked_s) / FADE_S), FASTEST)
        self._looked_s = time_s
        rows = reading.rows
        sharp = math.nan if rows.sharpness is None else float(rows.sharpness[reading.index])
        numbers = np.concatenate([[reading.value, sharp], reading.probabilities, reading.embedding]).astype(np.float64)
        self._recent.append(_Look(quality, numbers))
        before = self.shown
        if before is None or self._is_another(before):
            self.people, self.doubted = self.people + 1, False
            looks = [self._recent[-1]] if before is None else list(self._recent)
            self._recent.clear()
            self._sum = np.zeros(len(numbers))
            self._weight = self._weight_squares = 0.0
            for each in looks:
                self._add(each.weight, each.numbers, 1.0)
        else:
            away = (reading.value - before.value) / difficulty(before.mean)
            self.doubted = abs(away) > 1
            self._add(quality / (1 + away**2), numbers, fade)
            self._stay_inside(before)
        self.shown = self._estimate(rows)
        return self.shown

    def _add(self, weight: float, numbers: Doubles, fade: float) -> None:
        self._sum = fade * self._sum + weight * numbers
        self._weight = fade * self._weight + weight
        self._weight_squares = fade**2 * self._weight_squares + weight**2

    def _stay_inside(self, before: TrackReading) -> None:
        """Limit the new mean to the interval that was shown."""
        low, high = reach(before)
        self._sum[0] = self._weight * min(max(self._sum[0] / self._weight, low), high)

    def _is_another(self, before: TrackReading) -> bool:
        """Whether the last looks all lie to one side of the estimate, and are together far from it in value and embedding."""
        if len(self._recent) < CHANGE_LOOKS:
            return False
        unit = difficulty(before.mean)
        away = np.array([look.numbers[0] - before.value for look in self._recent]) / unit
        if not (away.min() > 1 or away.max() < -1):
            return False
        if len(before.embedding) == 0:  # the value alone decides
            return abs(float(away.mean())) > CHANGE_SCORE
        tail = np.sum([look.numbers[-len(before.embedding) :] for look in self._recent], axis=0)
        cosine = float(tail @ before.embedding) / max(float(np.linalg.norm(tail)), 1e-9)
        return abs(float(away.mean())) + (1 - cosine) / EMBEDDING_UNIT > CHANGE_SCORE

    def _estimate(self, like: Readings) -> TrackReading:
        """The current estimate."""
        mean = (self._sum / self._weight).astype(np.float32)
        bins = like.probabilities.shape[1]
        embedding = mean[2 + bins :] / max(float(np.linalg.norm(mean[2 + bins :])), 1e-9)
        sharp = None if like.sharpness is None else np.array([mean[1]], np.float64)
        row = Readings(mean[:1], mean[None, 2 : 2 + bins], embedding[None], like.spec, sharp)
        looks = self._weight**2 / self._weight_squares
        shrink = math.sqrt(self._correlation + (1 - self._correlation) / looks)
        return TrackReading(Reading(row), looks, shrink)


def difficulty(reading: Reading) -> float:
    """The expected size of a look's error, in the task's unit; without a calibration, the spread of the words."""
    rows, at = reading.rows, reading.index
    if rows.spec.calibration is not None:
        return float(rows.difficulty[at])
    one = slice(at, at + 1)
    return float(
        spread(rows.value[one].astype(np.float64), rows.probabilities[one].astype(np.float64), rows.spec.task)[0]
    )


def reach(reading: TrackReading) -> tuple[float, float]:
    """The range that one more look cannot leave: the interval, or one spread to either side."""
    if reading.is_calibrated:
        return reading.interval(MOVE_LEVEL)
    unit = difficulty(reading.mean)
    return reading.value - unit, reading.value + unit


def movement(times_s: Sequence[float], values: Sequence[float]) -> float:
    """How much a shown value fluctuates: its total change, in its unit, per second (0 for fewer than two values)."""
    if len(times_s) < 2 or times_s[-1] <= times_s[0]:
        return 0.0
    return float(np.abs(np.diff(values)).sum()) / (times_s[-1] - times_s[0])
