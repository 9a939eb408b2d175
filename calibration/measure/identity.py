"""How well a model's outputs identify people: the embedding, the words' probabilities, and, as the baseline, the age itself.

Two pictures of one person are a genuine pair, of two persons an impostor pair. An output leaks identity if it separates the two
kinds better than the age value alone does, among pairs of similar age: that information is not age.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from ...errors import DataError
from .predictor import Predictions

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]
OUTPUTS = ("embedding", "probabilities", "age")
LIKE_YEARS = 2.0  # largest difference of true ages in a pair of similar age
FAR = (1e-2, 1e-3)
MOST_PAIRS = 200_000  # most impostor pairs, drawn at random
RESAMPLES = 200  # of persons, for the intervals
FEWEST_PERSONS = 10  # with two or more pictures


@dataclass(frozen=True)
class Separation:
    """How well one output separates genuine from impostor pairs."""

    output: str  # embedding, probabilities or age
    like_age: bool  # only pairs whose true ages differ by at most LIKE_YEARS
    genuine: int  # pairs
    impostor: int
    auc: float  # 0.5: no separation, 1: perfect
    auc_low: float  # 95 % interval, by resampling persons
    auc_high: float
    tar: tuple[float | None, ...]  # share of genuine pairs accepted at each of FAR; None: too few impostor pairs


@dataclass(frozen=True)
class Identity:
    """The measurements, and whether any output leaks identity."""

    persons: int  # with two or more pictures
    n: int  # pictures
    separations: tuple[Separation, ...]
    leaks: tuple[str, ...]  # outputs that separate persons of similar age better than their age does

    def to_json(self) -> dict[str, object]:
        """As one JSON object."""
        return {**asdict(self), "far": list(FAR), "passes": not self.leaks}


def identity(predictions: Predictions) -> Identity:
    """Measure; raises DataError if no person has several pictures."""
    subjects = [sample.subject or "" for sample in predictions.faces.samples]
    readings = predictions.readings
    return separations(
        {
            "embedding": readings.embedding.astype(np.float64),
            "probabilities": readings.probabilities.astype(np.float64),
            "age": predictions.values[:, None],
        },
        predictions.labels,
        subjects,
    )


def separations(outputs: dict[str, Floats], labels: Floats, subjects: Sequence[str]) -> Identity:
    """outputs: [N, any] by name, including `age` [N, 1]. subjects: [N] the person in each picture, "" if not known."""
    persons = np.unique(np.asarray(subjects), return_inverse=True)[1].astype(np.intp)
    known = np.asarray(subjects) != ""
    several = known & (np.bincount(persons)[persons] > 1)
    count = len(np.unique(persons[several]))
    if count < FEWEST_PERSONS:
        raise DataError(
            f"--identity needs at least {FEWEST_PERSONS} persons with two or more pictures each (column subject), got "
            f"{count}; use data that names the persons"
        )
    genuine, impostor = _pairs(persons, known)
    found: list[Separation] = []
    for name, values in outputs.items():
        if values.shape[1] == 0:
            continue
        scores = _alike(name, values, genuine), _alike(name, values, impostor)
        for like in (False, True):
            pairs = [p[_like(labels, p)] if like else p for p in (genuine, impostor)]
            kept = [s[_like(labels, p)] if like else s for s, p in zip(scores, (genuine, impostor))]
            if len(kept[0]) and len(kept[1]):
                found.append(_separation(name, like, kept, pairs, persons))
    return Identity(count, int(known.sum()), tuple(found), _leaks(found))


def auc(genuine: Floats, impostor: Floats) -> float:
    """The probability that a genuine pair is more similar than an impostor pair, counting ties as half (Mann and Whitney)."""
    rising = np.sort(impostor)
    below, up_to = np.searchsorted(rising, genuine, "left"), np.searchsorted(rising, genuine, "right")
    return float((below + up_to).mean() / (2 * len(impostor)))


def accepted(genuine: Floats, impostor: Floats, far: float) -> float | None:
    """The share of genuine pairs above the limit that at most `far` of the impostor pairs exceed; None with fewer than 1 / far."""
    allowed = int(np.floor(len(impostor) * far + 1e-9))
    if allowed < 1:
        return None
    limit = np.sort(impostor)[len(impostor) - allowed - 1] if allowed < len(impostor) else -np.inf
    return float((genuine > limit).mean())


def _pairs(persons: Places, known: Mask) -> tuple[Places, Places]:
    """All genuine pairs, and impostor pairs (all, or MOST_PAIRS at random) [P, 2]."""
    places = np.flatnonzero(known)
    genuine: list[Places] = []
    for person in np.unique(persons[places]):
        mine = places[persons[places] == person]
        first, second = np.triu_indices(len(mine), 1)
        genuine.append(np.stack([mine[first], mine[second]], axis=1))
    n = len(places)
    if n * (n - 1) // 2 <= MOST_PAIRS:
        first, second = np.triu_indices(n, 1)
    else:
        drawn = np.random.default_rng(0).integers(0, n, (2, 2 * MOST_PAIRS))
        first, second = drawn[:, drawn[0] != drawn[1]]
    pairs = np.stack([places[first], places[second]], axis=1)
    return np.concatenate(genuine), pairs[persons[pairs[:, 0]] != persons[pairs[:, 1]]][:MOST_PAIRS]


def _alike(name: str, values: Floats, pairs: Places) -> Floats:
    """The similarity [P]: the cosine of embeddings; of other outputs, minus the distance."""
    one, two = values[pairs[:, 0]], values[pairs[:, 1]]
    return (one * two).sum(axis=1) if name == "embedding" else -np.abs(one - two).sum(axis=1)


def _like(labels: Floats, pairs: Places) -> Mask:
    return np.abs(labels[pairs[:, 0]] - labels[pairs[:, 1]]) <= LIKE_YEARS


def _separation(
    name: str, like: bool, scores: Sequence[Floats], pairs: Sequence[Places], persons: Places
) -> Separation:
    genuine, impostor = scores
    random, everybody = np.random.default_rng(0), int(persons.max()) + 1
    drawn: list[float] = []
    for _ in range(RESAMPLES):
        weight = np.bincount(random.integers(0, everybody, everybody), minlength=everybody)
        mine = np.repeat(genuine, weight[persons[pairs[0][:, 0]]])
        others = np.repeat(impostor, weight[persons[pairs[1][:, 0]]] * weight[persons[pairs[1][:, 1]]])
        if len(mine) and len(others):
            drawn.append(auc(mine, others))
    low, high = np.quantile(drawn, (0.025, 0.975)).tolist() if drawn else (0.0, 1.0)
    tar = tuple(accepted(genuine, impostor, far) for far in FAR)
    return Separation(name, like, len(genuine), len(impostor), auc(genuine, impostor), low, high, tar)


def _leaks(found: Sequence[Separation]) -> tuple[str, ...]:
    """The outputs whose interval, among pairs of similar age, is entirely above that of the age."""
    floor = max((s.auc_high for s in found if s.like_age and s.output == "age"), default=None)
    if floor is None:
        return ()
    return tuple(s.output for s in found if s.like_age and s.output != "age" and s.auc_low > floor)
