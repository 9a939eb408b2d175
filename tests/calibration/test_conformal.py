"""Conformal intervals: finite-sample quantiles, coverage, and probabilities of exceeding a threshold."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numclip.calibration.conformal import (
    LEVELS,
    Altered,
    LabelledReadings,
    cross_coverage,
    fit_layer,
    fit_table,
    fit_temperature,
    judged,
    look_correlation,
    weighted_quantiles,
)
from numclip.errors import DataError, ModelError
from numclip.runtime.contract.conformal_table import ConformalTable, log_odds, spread, tempered, words_below
from numclip.runtime.contract.fields import Fields, Json
from numclip.runtime.contract.spec import TaskSpec

TASK = TaskSpec("age", "years", 0, 120, (0.0, 20.0, 40.0, 60.0, 100.0), ("a", "b", "c", "d"))


def _faces(n: int, seed: int, shift: float = 0.0, blur: float = 0.0) -> LabelledReadings:
    """Make predictions at ages 10 to 80 whose error grows with spread, age and blur."""
    random = np.random.default_rng(seed)
    truth = random.uniform(10, 80, n)
    unsure = random.uniform(0.02, 0.6, n)
    values = truth + random.normal(size=n) * (1 + 8 * unsure + truth / 20) * (1 + 2 * blur) + shift
    values = values.clip(0, 120)
    near = np.searchsorted(TASK.bin_edges[1:-1], values)
    probabilities = np.full((n, 4), unsure[:, None] / 3)
    probabilities[np.arange(n), near] = 1 - unsure
    return LabelledReadings.exact(values, probabilities, truth, random.normal(-1.7 - blur, 0.1, n))


def _covered(table: ConformalTable, faces: LabelledReadings, level: float) -> float:
    low, high = table.interval(*judged(faces, table, TASK), level, TASK).T
    return float(((faces.labels >= low) & (faces.labels <= high)).mean())


@given(st.integers(1, 200), st.floats(0.01, 0.99))
@settings(max_examples=100, deadline=None)
def test_equal_weights_are_split_conformal(n: int, level: float) -> None:
    """With equal weights the quantile is the ceil((n+1) t)-th smallest above the middle, the floor((n+1) t)-th below."""
    rising = np.arange(1.0, n + 1)
    got = weighted_quantiles(rising, np.ones(n), np.array([level]))[0]
    exact = (n + 1) * level
    rank = math.ceil(exact - 1e-9) if level >= 0.5 else math.floor(exact + 1e-9)
    assert got == min(max(rank, 1), n)


def test_coverage_over_a_thousand_draws() -> None:
    """In 1,000 repetitions with 200 calibration faces and one new face, coverage is nominal within three binomial errors."""
    inside = dict.fromkeys((0.5, 0.8, 0.9, 0.95), 0)
    for seed in range(1000):
        both = _faces(201, seed)
        first = np.arange(201) < 200
        table, new = fit_table(both.take(first), TASK), both.take(~first)
        for level in inside:
            inside[level] += _covered(table, new, level) == 1
    for level, count in inside.items():
        assert abs(count / 1000 - level) <= 3 * np.sqrt(level * (1 - level) / 1000), level


def test_every_part_of_the_range_is_covered() -> None:
    """90 % intervals cover at least 85 % of faces predicted as young, middle and old, although their errors differ by 2:1."""
    table, new = fit_table(_faces(3000, 1), TASK), _faces(6000, 2)
    for low, high in ((0, 30), (30, 60), (60, 120)):
        assert _covered(table, new.take((new.values >= low) & (new.values < high)), 0.9) >= 0.85


def test_narrower_than_one_global_quantile() -> None:
    """At the same coverage the intervals are narrower on average than with one global quantile."""
    faces, new = _faces(3000, 1), _faces(6000, 2)
    table = fit_table(faces, TASK)
    ends = table.interval(*judged(new, table, TASK), 0.9, TASK)
    residual = np.abs(faces.labels - faces.values)
    assert np.diff(ends, axis=1).mean() < 0.97 * 2 * np.quantile(residual, _covered(table, new, 0.9))


def test_at_least_is_calibrated() -> None:
    """Of faces with probability p of being at least 35, a share p is, in every decile of p, to 6 percentage points."""
    table, new = fit_table(_faces(3000, 1), TASK), _faces(20000, 2)
    p = table.at_least(*judged(new, table, TASK), 35)
    for low in np.arange(0.05, 0.95, 0.1):
        chosen = (p >= low) & (p < low + 0.1)
        assert chosen.sum() > 100 and (new.labels[chosen] >= 35).mean() == pytest.approx(p[chosen].mean(), abs=0.06)


def test_blurred_faces_get_wider_intervals() -> None:
    """Blur beyond the calibration's faces triples the errors: 90 % intervals cover under 60 % without widening and 85 % with it."""
    faces = _faces(2000, 1)
    ladder = LabelledReadings.join([_faces(300, 10 + i, blur=blur) for i, blur in enumerate((0.3, 0.6, 0.9, 1.2))])
    plain, widened, blurred = fit_table(faces, TASK), fit_table(faces, TASK, ladder), _faces(3000, 3, blur=1.0)
    assert _covered(plain, blurred, 0.9) < 0.6 and _covered(widened, blurred, 0.9) >= 0.85
    assert _covered(widened, _faces(6000, 4), 0.9) == pytest.approx(0.9, abs=0.02)


def _with_embedding(faces: LabelledReadings, seed: int, off: float = 0.0) -> LabelledReadings:
    """Give faces unit embeddings [N, 8]; `off` shifts the third number, as an alteration would."""
    raw = np.random.default_rng(seed).normal(size=(len(faces.values), 8))
    raw[:, 2] += off
    return replace(faces, embeddings=raw / np.linalg.norm(raw, axis=1, keepdims=True))


def test_unfamiliar_faces_get_wider_intervals() -> None:
    """An alteration that shows in the embedding triples the errors: 90 % intervals cover under 60 % without the widening and 85 %
    with it, while familiar faces keep 90 % and a width that is at most 5 % larger."""
    faces, new = _with_embedding(_faces(2000, 1), 1), _with_embedding(_faces(6000, 2), 2)
    copies = replace(_with_embedding(_faces(1000, 3, blur=1.0), 3, off=6), sharpness=faces.sharpness[:1000])
    altered = Altered(copies, np.arange(1000))
    hidden = replace(_with_embedding(_faces(3000, 5, blur=1.0), 5, off=6), sharpness=new.sharpness[:3000])
    plain, wider = fit_table(faces, TASK), fit_table(faces, TASK, altered=altered)
    assert wider.direction.argmax() == 2 and wider.unfamiliar_widening[-1] > 2
    assert _covered(plain, hidden, 0.9) < 0.6 and _covered(wider, hidden, 0.9) >= 0.85
    assert _covered(wider, new, 0.9) == pytest.approx(0.9, abs=0.02)
    before, after = (np.diff(t.interval(*judged(new, t, TASK), 0.9, TASK), axis=1).mean() for t in (plain, wider))
    assert after <= 1.05 * before


def test_a_direction_without_meaning_costs_no_coverage() -> None:
    """Embeddings of 256 random numbers say nothing, and 300 faces could be fitted by heart: on new faces, 90 % intervals still cover
    89 % or more on average over 30 fits."""
    covered: list[float] = []
    for seed in range(30):
        random = np.random.default_rng(seed)
        faces, new, copies = (_faces(n, 3 * seed + i) for i, n in enumerate((300, 1000, 300)))
        faces, new, copies = (
            replace(part, embeddings=random.normal(size=(len(part.values), 256)) / 16) for part in (faces, new, copies)
        )
        covered.append(_covered(fit_table(faces, TASK, altered=Altered(copies, np.arange(300))), new, 0.9))
    assert np.mean(covered) >= 0.89


def test_unfamiliarity_by_hand() -> None:
    """Hand-computed: an embedding (0.6, 0.8) on the direction (1, 2) scores 2.2, halfway between 2 (factor 1) and 2.4 (factor 3): factor
    2. The factor for lost detail is 1.5, so the interval is twice as wide. Without a direction it is 1.5 times as wide."""
    table = ConformalTable(
        np.zeros(1),
        np.array([0.5]),
        np.zeros((1, 1)),
        1,
        0,
        sharpness=np.array([-3.0, -2.0]),
        widening=np.array([2.0, 1.0]),
    )
    embedding = np.array([[0.6, 0.8]])
    assert table.widened(np.array([-2.5]), embedding) == pytest.approx(1.5)
    table = replace(
        table,
        direction=np.array([1.0, 2.0]),
        unfamiliarity=np.array([2.0, 2.4]),
        unfamiliar_widening=np.array([1.0, 3.0]),
    )
    assert table.widened(np.array([-2.5, -3.5]), np.repeat(embedding, 2, axis=0)) == pytest.approx([2.0, 2.0])


def test_a_site_layer_restores_coverage() -> None:
    """A model that predicts 4 years too much undercovers; a site layer from 100 faces restores 90 % coverage, over 100 sites."""
    base, far = fit_table(_faces(2000, 1), TASK), _faces(4000, 2, shift=4)
    assert _covered(base, far, 0.9) < 0.85
    layers = [fit_layer(_faces(100, 100 + seed, shift=4), base, TASK) for seed in range(100)]
    assert np.mean([layer.offset for layer in layers]) == pytest.approx(-4, abs=0.5)
    assert np.mean([_covered(layer, far, 0.9) for layer in layers]) == pytest.approx(0.905, abs=0.01)


def test_temperature_by_hand() -> None:
    """If the top word has 90 % probability but is right in 60 % of cases, the temperature lowers it to 60 %."""
    probabilities = np.tile([0.9, 0.1 / 3, 0.1 / 3, 0.1 / 3], (1000, 1))
    labels = np.where(np.arange(1000) % 10 < 6, 10.0, 30.0)
    labels[labels == 30] = np.resize([30.0, 50.0, 80.0], 400)
    got = tempered(probabilities, fit_temperature(probabilities, labels, labels, TASK))
    assert got[0, 0] == pytest.approx(0.6, abs=0.01) and got.sum(axis=1) == pytest.approx(1)


def test_words_by_hand() -> None:
    """Hand-computed: with half on 0-20 and half on 20-40, a quarter is below 10 and three quarters below 30: odds of 30 are 1 to 3."""
    half = np.array([[0.5, 0.5, 0, 0]])
    assert words_below(half, 10, TASK).tolist() == [0.25] and words_below(half, 200, TASK).tolist() == [1]
    assert words_below(np.repeat(half, 2, axis=0), np.array([10.0, 30.0]), TASK).tolist() == [0.25, 0.75]
    assert log_odds(half, 30, TASK) == pytest.approx(-math.log(3))


def test_look_correlation() -> None:
    """Look correlation is 0.8 if 80 % of the error's variance is common to all looks at a face, and 0 for independent looks."""
    random = np.random.default_rng(0)
    own, common = random.normal(size=(2000, 8)), random.normal(size=(2000, 1))
    assert look_correlation(0.8**0.5 * common + 0.2**0.5 * own) == pytest.approx(0.8, abs=0.02)
    assert look_correlation(own) == pytest.approx(0, abs=0.02)


@given(st.integers(0, 1000), st.floats(5, 100))
@settings(max_examples=30, deadline=None)
def test_intervals_and_probabilities_agree(seed: int, threshold: float) -> None:
    """Intervals are nested in their level and stay in the task's range; the probability of exceeding a threshold falls with it."""
    table, new = fit_table(_faces(200, seed), TASK), _faces(50, seed + 1)
    values, difficulty = judged(new, table, TASK)
    ends = [table.interval(values, difficulty, level, TASK) for level in (0.5, 0.8, 0.9, 0.95)]
    for inner, outer in pairwise(ends):
        assert (outer[:, 0] <= inner[:, 0] + 1e-9).all() and (outer[:, 1] >= inner[:, 1] - 1e-9).all()
    assert ends[-1].min() >= 0 and ends[-1].max() <= 120
    lower, higher = (table.at_least(values, difficulty, t) for t in (threshold, threshold + 5))
    assert (higher <= lower + 1e-9).all() and lower.min() >= 0 and lower.max() <= 1


def test_cross_coverage_is_honest() -> None:
    """The coverage stored with the table is measured on faces that were held out of the fit."""
    got = cross_coverage(_faces(1000, 3), TASK, (0.5, 0.9))
    assert got["0.9"] == pytest.approx(0.9, abs=0.03) and got["0.5"] == pytest.approx(0.5, abs=0.05)


def test_cross_coverage_of_every_set() -> None:
    """Of two data sets one has errors of 2 and one of 8 years. If the quantiles hold on each by itself, the cross-validated coverage
    is that of these wider intervals: above the level."""
    random = np.random.default_rng(5)
    sources = np.repeat([0, 1], 600)
    truth = random.uniform(10, 80, 1200)
    values = truth + random.normal(size=1200) * np.where(sources == 0, 2.0, 8.0)
    faces = LabelledReadings.exact(values, np.full((1200, 4), 0.25), truth, np.full(1200, -1.7))
    together, each = cross_coverage(faces, TASK, (0.8,)), cross_coverage(faces, TASK, (0.8,), sources)
    assert together["0.8"] == pytest.approx(0.8, abs=0.03) and each["0.8"] > 0.86


def test_too_few_faces() -> None:
    """29 faces are an error, 30 give one knot and finite, wide intervals; knots without nearby faces are left out."""
    with pytest.raises(DataError, match="expected at least 30 labelled faces to calibrate, got 29"):
        fit_table(_faces(29, 0), TASK)
    table = fit_table(_faces(30, 0), TASK)
    assert len(table.knots) == 1 and np.isfinite(table.quantiles).all()
    old = _faces(3000, 0)
    assert fit_table(old, TASK).knots.tolist() == [10, 30, 50, 80]
    assert fit_table(old.take(old.values > 45), TASK).knots.tolist() == [50, 80]


def test_json_and_back() -> None:
    """A table survives conversion to JSON and back; a malformed one is an error that names the field."""
    table = fit_table(_faces(500, 0), TASK).rounded()
    raw = json.loads(json.dumps(table.to_json()))
    assert ConformalTable.from_json(Fields(raw)) == table and len(raw["levels"]) == len(LEVELS)
    wrong: tuple[tuple[str, Json], ...] = (
        ("quantiles", [[1, 2]]),
        ("base", -1),
        ("knots", "x"),
        ("levels", [0.0 for _ in LEVELS]),
        ("widening", [0.5]),
        ("unfamiliarity", [1.0, 0.0]),
        ("unfamiliar_widening", [0.5]),
        ("sharpness", []),
        ("unfamiliarity", []),
        ("offset", float("nan")),
    )
    for field, value in wrong:
        with pytest.raises(ModelError, match="spec field calibration"):
            ConformalTable.from_json(Fields({**raw, field: value}, "calibration."))


def test_spread_by_hand() -> None:
    """Hand-computed: half on the bin centered at 10, half on 30, predicted 20: every word is 10 years off, so the spread is 10."""
    assert spread(np.array([20.0]), np.array([[0.5, 0.5, 0, 0]]), TASK).tolist() == [10]


def test_crepes_finds_the_same_intervals() -> None:
    """With one knot, the intervals of 200 faces at 80, 90 and 95 % equal those of crepes' normalised conformal predictive system."""
    crepes = pytest.importorskip("crepes", reason="needs the extra dev")
    random = np.random.default_rng(0)
    labels, values = random.uniform(10, 80, 200), random.uniform(10, 80, 50)
    words = random.dirichlet(np.ones(TASK.num_bins), 250)
    read = labels + random.normal(0, 6, 200)
    table = fit_table(LabelledReadings.exact(read, words[:200], labels, np.zeros(200)), TASK)
    assert len(table.knots) == 1
    sigmas, new = (
        table.difficulty(v, tempered(w, table.temperature), np.zeros(len(v)), np.zeros((len(v), 0)), TASK)
        for v, w in ((read, words[:200]), (values, words[200:]))
    )
    oracle = crepes.ConformalPredictiveSystem().fit(labels - read, sigmas=sigmas)
    for level in (0.8, 0.9, 0.95):
        theirs = oracle.predict_int(values, sigmas=new, confidence=level, y_min=TASK.low, y_max=TASK.high)
        assert table.interval(values, new, level, TASK) == pytest.approx(theirs, abs=1e-9)
