"""Intervals hold what they promise: finite-sample quantiles, coverage, probabilities of passing a threshold."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numclip.calibration.conformal import LEVELS, LabelledReadings, cross_coverage, fit_table, weighted_quantiles
from numclip.errors import DataError, ModelError
from numclip.runtime.conformal_table import ConformalTable, spread
from numclip.runtime.spec import TaskSpec

TASK = TaskSpec("age", "years", 0, 120, (0.0, 20.0, 40.0, 60.0, 100.0), ("a", "b", "c", "d"))


def _faces(n: int, seed: int, shift: float = 0.0) -> LabelledReadings:
    """A predictor whose error grows with its spread and with age, at ages 10 to 80."""
    random = np.random.default_rng(seed)
    truth = random.uniform(10, 80, n)
    unsure = random.uniform(0.02, 0.6, n)
    values = truth + random.normal(size=n) * (1 + 8 * unsure + truth / 20) + shift
    values = values.clip(0, 120)
    near = np.searchsorted(TASK.bin_edges[1:-1], values)
    probabilities = np.full((n, 4), unsure[:, None] / 3)
    probabilities[np.arange(n), near] = 1 - unsure
    return LabelledReadings(values, probabilities, truth)


def _covered(table: ConformalTable, faces: LabelledReadings, level: float) -> float:
    difficulty = table.difficulty(faces.values, faces.probabilities, TASK)
    low, high = table.interval(faces.values, difficulty, level, TASK).T
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


def test_coverage_over_many_draws() -> None:
    """Over 60 draws of 400 calibration faces, 50, 80, 90 and 95 % intervals cover that share of new faces, to 1.5 points."""
    covered = {level: [] for level in (0.5, 0.8, 0.9, 0.95)}
    for seed in range(60):
        table, new = fit_table(_faces(400, seed), TASK), _faces(400, 1000 + seed)
        for level, shares in covered.items():
            shares.append(_covered(table, new, level))
    for level, shares in covered.items():
        assert np.mean(shares) == pytest.approx(level, abs=0.015), level


def test_every_part_of_the_range_is_covered() -> None:
    """At 90 %, at least 85 % are covered among faces read as young, middle and old, though their errors differ 2:1."""
    table, new = fit_table(_faces(3000, 1), TASK), _faces(6000, 2)
    for low, high in ((0, 30), (30, 60), (60, 120)):
        assert _covered(table, new.take((new.values >= low) & (new.values < high)), 0.9) >= 0.85


def test_narrower_than_one_global_quantile() -> None:
    """At the same coverage the intervals are narrower on average than one quantile for everybody."""
    faces, new = _faces(3000, 1), _faces(6000, 2)
    table = fit_table(faces, TASK)
    ends = table.interval(new.values, table.difficulty(new.values, new.probabilities, TASK), 0.9, TASK)
    residual = np.abs(faces.labels - faces.values)
    assert np.diff(ends, axis=1).mean() < 0.97 * 2 * np.quantile(residual, _covered(table, new, 0.9))


def test_at_least_is_calibrated() -> None:
    """Among faces said to be at least 18 with probability p, a share p is, in every tenth of p, to 6 points."""
    table, new = fit_table(_faces(3000, 1), TASK), _faces(20000, 2)
    p = table.at_least(new.values, table.difficulty(new.values, new.probabilities, TASK), 35)
    for low in np.arange(0.05, 0.95, 0.1):
        chosen = (p >= low) & (p < low + 0.1)
        assert chosen.sum() > 100 and (new.labels[chosen] >= 35).mean() == pytest.approx(p[chosen].mean(), abs=0.06)


@given(st.integers(0, 1000), st.floats(5, 100))
@settings(max_examples=30, deadline=None)
def test_intervals_and_probabilities_agree(seed: int, threshold: float) -> None:
    """Intervals nest with rising level, stay in the task's range, and passing a threshold falls as it rises."""
    table, new = fit_table(_faces(200, seed), TASK), _faces(50, seed + 1)
    difficulty = table.difficulty(new.values, new.probabilities, TASK)
    ends = [table.interval(new.values, difficulty, level, TASK) for level in (0.5, 0.8, 0.9, 0.95)]
    for inner, outer in pairwise(ends):
        assert (outer[:, 0] <= inner[:, 0] + 1e-9).all() and (outer[:, 1] >= inner[:, 1] - 1e-9).all()
    assert ends[-1].min() >= 0 and ends[-1].max() <= 120
    lower, higher = (table.at_least(new.values, difficulty, t) for t in (threshold, threshold + 5))
    assert (higher <= lower + 1e-9).all() and lower.min() >= 0 and lower.max() <= 1


def test_cross_coverage_is_honest() -> None:
    """The coverage written beside the table is measured on faces held out of the fit."""
    got = cross_coverage(_faces(1000, 3), TASK, (0.5, 0.9))
    assert got["0.9"] == pytest.approx(0.9, abs=0.03) and got["0.5"] == pytest.approx(0.5, abs=0.05)


def test_too_few_faces() -> None:
    """29 faces are refused, 30 give one knot and finite, wide intervals."""
    with pytest.raises(DataError, match="expected at least 30 labelled faces to calibrate, got 29"):
        fit_table(_faces(29, 0), TASK)
    table = fit_table(_faces(30, 0), TASK)
    assert len(table.knots) == 1 and np.isfinite(table.quantiles).all()


def test_json_and_back() -> None:
    """A table survives JSON to the last digit it writes; a malformed one is refused by the field's name."""
    table = fit_table(_faces(500, 0), TASK)
    raw = json.loads(json.dumps(table.to_json()))
    assert ConformalTable.from_json(raw).to_json() == table.to_json() and len(raw["levels"]) == len(LEVELS)
    for field, value in (("kind", "magic"), ("quantiles", [[1, 2]]), ("base", -1), ("knots", "x")):
        with pytest.raises(ModelError, match="spec field calibration"):
            ConformalTable.from_json({**raw, field: value})


def test_spread_by_hand() -> None:
    """Half on the bin centered at 10 and half on 30, read as 20: every word is 10 years off, so the spread is 10."""
    assert spread(np.array([20.0]), np.array([[0.5, 0.5, 0, 0]]), TASK).tolist() == [10]
