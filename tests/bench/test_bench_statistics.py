"""Percentiles against manual counting; intervals against their nominal coverage."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numclip.bench.statistics import Timed, over_restarts, percentile, ratio, ratio_of_runs, samples_for


def test_samples_a_percentile_needs() -> None:
    """p90 needs 36 samples, because 0.9^36 is the first power of 0.9 below 2.5 %; p99 needs 368 and p99.9 needs 3688."""
    assert [samples_for(q) for q in (0.5, 0.9, 0.99, 0.999)] == [6, 36, 368, 3688]
    assert percentile(range(35), 0.9) is None and percentile(range(36), 0.9) is not None


def test_percentiles_of_1_to_1000() -> None:
    """For 1 ... 1000 the p50 is 500 and the p90 900; the p50's interval is about ranks 500 +- 31 (1.96 sqrt(250))."""
    assert percentile(range(1, 1001), 0.5) == {"value": 500, "low": 469, "high": 532}
    p90 = percentile(range(1, 1001), 0.9)
    assert p90 is not None and p90["value"] == 900


@given(st.integers(6, 3000), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
@settings(max_examples=50, deadline=None)
def test_a_percentile_is_the_sample_that_counting_finds(n: int, q: float) -> None:
    """A percentile is the smallest sample with at least the share q of all samples at or below it, and lies in its interval."""
    samples = np.random.default_rng(n).permutation(n).tolist()
    got = percentile(samples, q)
    if n < samples_for(q):
        assert got is None
    else:
        assert got is not None
        assert got["value"] == np.quantile(samples, q, method="inverted_cdf")
        assert got["low"] <= got["value"] <= got["high"]


def test_the_interval_holds_the_percentile() -> None:
    """Over 400 samples with known quantiles, the 95 % interval of p90 contains the true one in at least 93 %."""
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        got = percentile(random.uniform(0, 1, 300).tolist(), 0.9)
        assert got is not None
        inside += got["low"] <= 0.9 <= got["high"]
    assert inside / 400 >= 0.93


def run_of(medians_ms: list[float], noise: Callable[[], float], rounds: int = 8) -> list[list[list[Timed]]]:
    """Make one list of rounds per restart, with the given medians and eight calls each."""
    return [[[Timed(m * noise(), False) for _ in range(8)] for _ in range(rounds)] for m in medians_ms]


def test_ratio_of_itself_and_of_a_known_factor() -> None:
    """The ratio of a contender to itself is exactly 1; of one that takes 1.5 times as long in every call exactly 1.5."""
    times = iter(np.random.default_rng(0).uniform(1, 3, 10_000))
    run = run_of([1.0] * 5, lambda: float(next(times)))
    slow = [[[Timed(1.5 * call.ms, False) for call in calls] for calls in rounds] for rounds in run]
    same = ratio(run, run)
    assert (same["value"], same["low"], same["high"], same["rounds"]) == (1, 1, 1, 40)
    assert ratio(slow, run)["value"] == pytest.approx(1.5)


@pytest.mark.parametrize(("restarts", "rounds", "noise"), [(6, 12, 0.05), (6, 3, 0.02), (1, 24, 0.03)])
def test_what_intervals_of_ratios_claim(restarts: int, rounds: int, noise: float) -> None:
    """With heavy-tailed noise and sessions that vary by 1 %: of 40 pairs of the same file at least 36 intervals contain 1, and
    of 40 pairs with one file 5 % slower at least 36 lie above 1."""
    random = np.random.default_rng(1)

    def one(factor: float) -> list[list[list[Timed]]]:
        of_a_session = 0.0 if restarts == 1 else 0.01  # unknown within one restart
        medians = factor * np.exp(random.normal(0, of_a_session, restarts))
        return run_of(medians.tolist(), lambda: math.exp(noise * random.standard_t(3)), rounds)

    same = [ratio(one(1.0), one(1.0)) for _ in range(40)]
    slower = [ratio(one(1.05), one(1.0)) for _ in range(40)]
    assert sum(r["low"] <= 1 <= r["high"] for r in same) >= 36
    assert sum(r["low"] > 1 for r in slower) >= 36


def test_interrupted_calls_stand_aside() -> None:
    """Interrupted calls do not affect a ratio as long as there are uninterrupted ones."""
    calm = [[[Timed(2.0, False)] * 3 + [Timed(2.0, True)] * 4] * 5]
    busy = [[[Timed(3.0, False)] * 3 + [Timed(50.0, True)] * 4] * 5]
    assert ratio(busy, calm)["value"] == pytest.approx(1.5) and ratio(busy, calm)["undisturbed"]
    never_alone = [[[Timed(50.0, True)] * 7] * 5]
    assert ratio(never_alone, calm)["value"] == pytest.approx(25) and not ratio(never_alone, calm)["undisturbed"]


def test_ratio_of_runs_by_hand() -> None:
    """Hand-computed: restarts at e^0, e^0.1, e^0.2 against three at 1: mean log 0.1, standard error 0.1 / sqrt 3, t(2) = 4.303."""
    got = ratio_of_runs([1, math.exp(0.1), math.exp(0.2)], [1, 1, 1])
    half = 4.303 * 0.1 / math.sqrt(3)
    assert got["value"] == pytest.approx(math.exp(0.1))
    assert (got["low"], got["high"]) == pytest.approx((math.exp(0.1 - half), math.exp(0.1 + half)))


def test_no_interval_from_two_restarts() -> None:
    """Two restarts give a value without an interval; three give an interval too."""
    assert over_restarts([100, 100]) == {"value": pytest.approx(100), "low": None, "high": None}
    got = over_restarts([90, 100, 110])
    assert got["low"] is not None and got["high"] is not None and got["low"] < 99.66 < got["high"]
