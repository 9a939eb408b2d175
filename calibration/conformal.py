"""Fit the table of residual quantiles on labelled faces: split conformal prediction, normalised, localised by predicted value.

For each knot the calibration faces are weighted by the distance of their predicted value. The quantile at level t of the
weighted residuals counts one further face, the new one, as infinitely far away: with equal weights that is the ceil((n+1) t)-th
smallest residual of n, the finite-sample correction of split conformal prediction (Vovk et al.).

A label may be a band. Quantiles below the middle are then of its lower end, those above of its upper end, so that intervals
contain whole bands as often as they state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..runtime.contract.conformal_table import ConformalTable, spread, tempered
from ..runtime.contract.spec import TaskSpec

Floats = npt.NDArray[np.float64]
MIN_FACES = 30
FACES_PER_KNOT = 250  # fewer faces give fewer knots, at least one
LEVELS = np.array([0.005, 0.01, 0.02, 0.025, *np.arange(0.05, 0.951, 0.05).round(3), 0.975, 0.98, 0.99, 0.995])
MIDDLE = 0.5
FOLDS = 5
USUAL = 0.02  # faces sharper than this share of the calibration's are not widened
UNUSUAL = 0.1  # this share of the calibration's faces counts as unfamiliar
WIDENING_STEPS, UNFAMILIAR_STEPS = 10, 5
RIDGE = 0.01  # as a share of the mean diagonal element of the scatter matrix
MOST_NEEDED = 4.0  # larger factors count as this much when the direction is fitted


@dataclass(frozen=True, eq=False)
class LabelledReadings:
    """A graph's outputs without calibration, together with the true values."""

    values: Floats  # [N] in the task's unit
    probabilities: Floats  # [N, K]
    labels: Floats  # [N]; of a band its lower end
    sharpness: Floats  # [N]
    highs: Floats  # [N] the upper end of a band; the label where it is exact
    embeddings: Floats  # [N, D]; D = 0 if the graph has none

    @staticmethod
    def exact(values: Floats, probabilities: Floats, labels: Floats, sharpness: Floats) -> LabelledReadings:
        """Outputs with exact labels and without an embedding."""
        return LabelledReadings(values, probabilities, labels, sharpness, labels, np.zeros((len(values), 0)))

    def take(self, chosen: npt.NDArray[np.bool_]) -> LabelledReadings:
        """The faces selected by a mask [N]."""
        return LabelledReadings(*(getattr(self, f.name)[chosen] for f in fields(self)))

    @staticmethod
    def join(parts: Sequence[LabelledReadings]) -> LabelledReadings:
        """Concatenate."""
        names = [f.name for f in fields(LabelledReadings)]
        return LabelledReadings(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))

    def residuals(self, values: Floats) -> tuple[Floats, Floats]:
        """The differences [N] of the lower and the upper end of each label from values [N]."""
        return self.labels - values, self.highs - values


@dataclass(frozen=True, eq=False)
class Altered:
    """Calibration faces behind a mask, dark glasses and so on."""

    readings: LabelledReadings  # of M altered copies
    of: npt.NDArray[np.intp]  # [M] the index of the calibration face that each is a copy of


def fit_table(
    faces: LabelledReadings,
    task: TaskSpec,
    degraded: LabelledReadings | None = None,
    sources: npt.NDArray[np.intp] | None = None,
    altered: Altered | None = None,
) -> ConformalTable:
    """Fit the table; raises DataError for fewer than 30 faces.

    degraded: faces of the same kind with detail removed, for the widening; they do not change anything for sharp faces.
    altered: some of the faces behind a mask, dark glasses and so on, for the widening of unfamiliar faces.
    sources: [N] the source of each face; the quantiles then hold on every source by itself, not only on all together.
    """
    _check_enough(len(faces.labels))
    temperature = fit_temperature(faces.probabilities, faces.labels, faces.highs, task)
    low, high = faces.residuals(faces.values)
    spreads = spread(faces.values, tempered(faces.probabilities, temperature), task)
    base, slope = _difficulty(spreads, np.maximum(np.abs(low), np.abs(high)))
    difficulty = base + slope * spreads
    count = int(np.clip(len(faces.values) // FACES_PER_KNOT, 1, task.num_bins))

    def quantiles() -> tuple[Floats, Floats, Floats]:
        return _localised(faces.values, (low / difficulty, high / difficulty), count, task, sources)

    table = ConformalTable(*quantiles(), base, slope, temperature)
    if degraded is not None:
        sharp, widening = fit_widening(table, faces, degraded, task)
        table = replace(table, sharpness=sharp, widening=widening)
    widened = table.widened(faces.sharpness, faces.embeddings)
    if altered is not None and faces.embeddings.shape[1]:
        table, other = (fit_unfamiliar(table, faces, altered, task, half) for half in (0, 1))
        # each face is widened by the direction that was fitted without it, as a new face would be
        even, odd = (t.widened(faces.sharpness, faces.embeddings) for t in (other, table))
        widened = np.where(np.arange(len(faces.labels)) % 2 == 0, even, odd)
    # Some of the calibration's own faces are widened too, so the quantiles are computed again with the widening.
    difficulty *= widened
    knots, _, rows = quantiles()
    return replace(table, knots=knots, quantiles=rows)


def fit_layer(faces: LabelledReadings, base: ConformalTable, task: TaskSpec) -> ConformalTable:
    """Fit a site's table on top of a base: an offset (the median error) and quantiles of its own; the difficulty is the base's.

    Raises DataError for fewer than 30 faces.
    """
    _check_enough(len(faces.labels))
    offset = float(np.median((faces.labels + faces.highs) / 2 - faces.values))
    shifted = replace(base, offset=offset)
    values, difficulty = judged(faces, shifted, task)
    low, high = faces.residuals(values)
    knots, levels, rows = _localised(values, (low / difficulty, high / difficulty), 1, task)
    return replace(shifted, knots=knots, levels=levels, quantiles=rows)


def judged(faces: LabelledReadings, table: ConformalTable, task: TaskSpec) -> tuple[Floats, Floats]:
    """The corrected value and the difficulty [N] of each face, computed as the runtime does."""
    values, probabilities = table.correct(faces.values, faces.probabilities, task)
    return values, table.difficulty(values, probabilities, faces.sharpness, faces.embeddings, task)


def fit_temperature(probabilities: Floats, lows: Floats, highs: Floats, task: TaskSpec) -> float:
    """The divisor of the logits that maximises the likelihood of the true bins (Guo et al. 2017), by golden-section search in 0.2 to 5.

    lows, highs: [N] the ends of the labels; all bins between them count as true.
    """
    first, last = (np.searchsorted(task.bin_edges[1:-1], ends, side="right")[:, None] for ends in (lows, highs))
    each = np.arange(task.num_bins)[None]
    true = (first <= each) & (each <= last)  # [N, K]

    def surprise(log_temperature: float) -> float:
        right = (tempered(probabilities, np.exp(log_temperature)) * true).sum(axis=1)
        return -float(np.log(right.clip(1e-12)).mean())

    low, high, ratio = np.log(0.2), np.log(5.0), (np.sqrt(5) - 1) / 2
    for _ in range(30):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if surprise(left) <= surprise(right) else (left, high)
    return float(np.exp((low + high) / 2))


def fit_widening(
    table: ConformalTable, faces: LabelledReadings, degraded: LabelledReadings, task: TaskSpec
) -> tuple[Floats, Floats]:
    """Fit the widening: sharpness and factor [W]; the factor is 1 for the calibration's sharpness, and larger below it."""
    usual = float(np.quantile(faces.sharpness, USUAL))
    at, factors = _factors(-usual, -degraded.sharpness, _needed(table, degraded, task), WIDENING_STEPS)
    return -at[::-1], factors[::-1]


def fit_unfamiliar(
    table: ConformalTable, faces: LabelledReadings, altered: Altered, task: TaskSpec, half: int = 0
) -> ConformalTable:
    """Add to a table the widening for unfamiliar faces: a direction in the embedding, and factors by the projection on it.

    The direction predicts the log of the factor that a face needs, by ridge regression (Hoerl and Kennard 1970) on every other face
    as it is and altered: those with even index (half 0) or odd index (half 1). The factors are measured on the other half.
    """
    plain = replace(table, sharpness=np.zeros(1), widening=np.ones(1))
    both = LabelledReadings.join([faces, altered.readings])
    fitting = np.concatenate([np.arange(len(faces.labels)), altered.of]) % 2 == half
    needed = _needed(plain, both, task)
    off = both.embeddings[fitting] - both.embeddings[fitting].mean(axis=0)
    wanted = np.log(needed[fitting].clip(1 / MOST_NEEDED, MOST_NEEDED))
    within = off.T @ off
    if not np.trace(within) > 0:
        return table
    ridge = RIDGE * np.trace(within) / len(within) * np.eye(len(within))
    direction = np.linalg.solve(within + ridge, off.T @ (wanted - wanted.mean()))
    usual = float(np.quantile(faces.embeddings[1 - half :: 2] @ direction, 1 - UNUSUAL))
    at, factors = _factors(usual, both.embeddings[~fitting] @ direction, needed[~fitting], UNFAMILIAR_STEPS)
    return replace(table, direction=direction, unfamiliarity=at, unfamiliar_widening=factors)


def _needed(table: ConformalTable, faces: LabelledReadings, task: TaskSpec) -> Floats:
    """The factor [N] at which the end of each face's 90 % interval just reaches its true value."""
    values, difficulty = judged(faces, table, task)
    low, high = faces.residuals(values)
    ends = [table.quantile(values, difficulty, level) - values for level in (0.05, 0.95)]
    return np.maximum(low / np.minimum(ends[0], -1e-6), high / np.maximum(ends[1], 1e-6))


def _factors(usual: float, scores: Floats, needed: Floats, steps: int) -> tuple[Floats, Floats]:
    """Scores and factors [W], both rising: 1 at the usual score, and above it the conformal 90 % quantile of the factors that faces of
    similar score need, made non-decreasing.
    """
    chosen = scores > usual
    scores, needed = scores[chosen], needed[chosen]
    at, factors = [usual], [1.0]
    groups = min(steps, len(scores) // MIN_FACES)
    for part in np.array_split(np.argsort(scores, kind="stable"), groups) if groups else []:
        rank = min(len(part), int(np.ceil((len(part) + 1) * 0.9)))
        at.append(max(float(np.median(scores[part])), at[-1] + 1e-4))
        factors.append(max(1.0, float(np.sort(needed[part])[rank - 1])))
    highest_before = np.maximum.accumulate(factors)
    lowest_after = np.minimum.accumulate(factors[::-1])[::-1]
    return np.array(at), (highest_before + lowest_after) / 2


def look_correlation(errors: Floats) -> float:
    """The share rho, in [0, 1], of the error's variance that all looks at a face have in common; errors [F, looks].

    One-way analysis of variance: (MSB - MSW) / (MSB + (looks - 1) MSW).
    """
    looks = errors.shape[1]
    between = looks * errors.mean(axis=1).var(ddof=1)
    within = errors.var(axis=1, ddof=1).mean()
    return float(np.clip((between - within) / (between + (looks - 1) * within), 0, 1))


def weighted_quantiles(rising: Floats, weights: Floats, levels: Floats) -> Floats:
    """The quantiles [L] of ascending residuals [N] with weights [N], and one more face of weight 1 at the far end.

    Above the middle it is the first residual with enough weight below it, under the middle the last with not too much. If the
    further face, which is infinitely far, would decide, the outermost residual is used: n faces cannot guarantee more.
    """
    total = weights.sum() + 1
    share = np.cumsum(weights) / total  # [N] P(the further face's residual <= this one)
    at_up = np.searchsorted(share, levels - 1e-12, side="left")
    at_down = np.searchsorted(share, levels + 1e-12, side="right") - 1
    at = np.where(levels >= 0.5, at_up, at_down).clip(0, len(rising) - 1)
    return np.maximum.accumulate(rising[at])


def cross_coverage(
    faces: LabelledReadings,
    task: TaskSpec,
    levels: tuple[float, ...],
    sources: npt.NDArray[np.intp] | None = None,
) -> dict[str, float]:
    """The share of faces inside their interval, by level, each measured with a table fitted without it (5 folds), without widening.

    sources: [N] the data set of each face, for quantiles that hold on each data set by itself; None: on all faces together.
    """
    fold = np.random.default_rng(0).permutation(len(faces.labels)) % FOLDS
    inside: dict[str, list[npt.NDArray[np.bool_]]] = {f"{level:g}": [] for level in levels}
    for k in range(FOLDS):
        held = faces.take(fold == k)
        kept = faces.take(fold != k)
        if len(kept.labels) < MIN_FACES:
            return {}
        table = fit_table(kept, task, sources=None if sources is None else sources[fold != k])
        values, difficulty = judged(held, table, task)
        for level in levels:
            ends = table.interval(values, difficulty, level, task)
            inside[f"{level:g}"].append((held.labels >= ends[:, 0]) & (held.highs <= ends[:, 1]))
    return {level: round(float(np.concatenate(parts).mean()), 4) for level, parts in inside.items()}


@dataclass(frozen=True)
class LeftOut:
    """How well intervals that were fitted on the other data sets hold on one data set, at one level."""

    coverage: float  # share of its labels inside their interval
    width: float  # mean, in the task's unit
    width_of_others: float  # mean width on the data sets that they were fitted on

    def to_json(self) -> dict[str, float]:
        """The fields."""
        return asdict(self)


def left_out(
    sets: Mapping[str, LabelledReadings], task: TaskSpec, level: float = 0.9, *, every_set: bool = False
) -> dict[str, LeftOut]:
    """Measure each data set with a table fitted on all others; empty for fewer than two.

    every_set: with quantiles that hold on each of the others by itself.
    """
    found: dict[str, LeftOut] = {}
    for name, held in sets.items():
        others = [part for other, part in sets.items() if other != name]
        if not others:
            return {}
        rest = LabelledReadings.join(others)
        table = fit_table(rest, task, sources=source_of(others) if every_set else None)
        ends, at = (table.interval(*judged(part, table, task), level, task) for part in (held, rest))
        inside = (held.labels >= ends[:, 0]) & (held.highs <= ends[:, 1])
        widths = (float((i[:, 1] - i[:, 0]).mean()) for i in (ends, at))
        found[name] = LeftOut(round(float(inside.mean()), 4), *(round(width, 2) for width in widths))
    return found


def source_of(sets: Sequence[LabelledReadings]) -> npt.NDArray[np.intp]:
    """The index [N] of the data set that each joined face comes from."""
    return np.repeat(np.arange(len(sets)), [len(part.labels) for part in sets])


def _difficulty(spreads: Floats, errors: Floats) -> tuple[float, float]:
    """Base and slope, both at least 0: a least-squares line through the errors over the spread."""
    design = np.stack([np.ones_like(spreads), spreads], axis=1)
    base, slope = np.linalg.lstsq(design, errors, rcond=None)[0]
    floor = max(1e-3, 0.1 * float(errors.mean()))
    if slope <= 0:
        return max(float(errors.mean()), floor), 0.0
    if base < floor:
        return floor, max(0.0, float(((errors - floor) * spreads).sum() / max((spreads**2).sum(), 1e-9)))
    return float(base), float(slope)


def _check_enough(n: int) -> None:
    if n < MIN_FACES:
        raise DataError(
            f"expected at least {MIN_FACES} labelled faces to calibrate, got {n}; add more (100 or more are better)"
        )


def _localised(
    values: Floats,
    normalised: tuple[Floats, Floats],
    count: int,
    task: TaskSpec,
    sources: npt.NDArray[np.intp] | None = None,
) -> tuple[Floats, Floats, Floats]:
    """Knots [M], levels [L], and at each knot the quantiles [M, L] of the residuals near it, of lower and upper ends [N].

    The knots are the centers of `count` words, chosen evenly, without those that too few faces are near. With sources [N] the
    outermost quantiles over all faces and over each source with enough faces near the knot are taken.
    """
    chosen = np.linspace(0, task.num_bins - 1, count).round().astype(np.intp)
    knots = np.asarray(task.bin_centers)[chosen]
    near = _nearness(values, knots)
    while len(knots) > 1 and near.sum(axis=1).min() < MIN_FACES:
        knots = np.delete(knots, near.sum(axis=1).argmin())
        near = _nearness(values, knots)
    rows = _rows(normalised, near)
    for source in [] if sources is None else np.unique(sources).tolist():
        mine = np.where(sources == source, near, 0)
        own = _rows(normalised, mine)
        outer = np.where(LEVELS < MIDDLE, np.minimum(rows, own), np.where(LEVELS > MIDDLE, np.maximum(rows, own), rows))
        rows = np.where((mine.sum(axis=1) >= MIN_FACES)[:, None], outer, rows)
    return knots, LEVELS, np.maximum.accumulate(rows, axis=1)


def _rows(normalised: tuple[Floats, Floats], near: Floats) -> Floats:
    """The quantiles [M, L]: below the middle those of the lower ends, above it those of the upper ends. near: [M, N] the weight of each
    face at each knot.
    """
    low, high = (
        np.array([weighted_quantiles(ends[order], w[order], LEVELS) for w in near])
        for ends in normalised
        for order in [np.argsort(ends, kind="stable")]
    )
    return np.where(LEVELS < MIDDLE, low, high)


def _nearness(values: Floats, knots: Floats) -> Floats:
    """The weights [M, N] in [0, 1]: 1 at the knot, falling linearly to 0 at its neighbours; they sum to 1 for each face."""
    if len(knots) == 1:
        return np.ones((1, len(values)))
    place = np.interp(values, knots, np.arange(len(knots)))
    return (1 - np.abs(place[None] - np.arange(len(knots))[:, None])).clip(0)
