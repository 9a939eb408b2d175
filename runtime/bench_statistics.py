"""What a list of timings says, with how sure one may be of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

TAIL = 0.025  # on either side of a 95 % interval
RESAMPLES = 2000
ENOUGH_ROUNDS = 20  # undisturbed ones, to judge by them alone
PERCENTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
# 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom; the normal's beyond the table.
STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
NORMAL = 1.960


def samples_for(q: float) -> int:
    """How many samples it takes until the largest lies above the q-quantile with 97.5 % probability, the least for a
    95 % interval."""
    return math.ceil(math.log(TAIL) / math.log(q))


def percentile(samples: Sequence[float], q: float) -> dict[str, float] | None:
    """The q-quantile, a sample itself (the smallest with at least the share q at or below it), and its 95 % interval.

    The interval is distribution-free, from order statistics: the k-th smallest of n lies above the quantile with the
    binomial probability of fewer than k of n at or below it. None where n is too few for an upper end.
    """
    n = len(samples)
    if n < samples_for(q):
        return None
    rising = np.sort(np.asarray(samples, np.float64))
    at_most = _binomial_cdf(n, q)  # [n + 1]
    low = max(int(np.searchsorted(at_most, TAIL, "right")) - 1, 0)
    high = min(int(np.searchsorted(at_most, 1 - TAIL, "left")), n - 1)
    value, below, above = (float(rising[rank]) for rank in (_rank(n, q), low, high))
    return {"value": value, "low": below, "high": above}


def summary(samples: Sequence[float]) -> dict[str, Any]:
    """n and the percentiles by name: p50, p90, p95, p99, p99.9."""
    return {"n": len(samples), **{f"p{100 * q:g}": percentile(samples, q) for q in PERCENTILES}}


@dataclass(frozen=True)
class Round:
    """A contender's median in one round: of all its calls, and of those that were not interrupted, if there were any."""

    all_ms: float
    undisturbed_ms: float | None


def ratio(ours: Sequence[Sequence[Round]], theirs: Sequence[Sequence[Round]]) -> dict[str, Any]:
    """How many times as long ours takes as theirs in one run, with a 95 % interval.

    ours, theirs: the rounds of each restart; round i of both ran side by side, so a noisy moment harms both. The
    interval is the wider of a bootstrap over the rounds (the noise of the machine) and Student's t over the restarts
    (two sessions of one file differ by a percent or so, by where their memory came to lie).
    """
    pairs = [list(zip(a, b, strict=True)) for a, b in zip(ours, theirs, strict=True)]
    clean = [
        [math.log(a.undisturbed_ms / b.undisturbed_ms) for a, b in p if a.undisturbed_ms and b.undisturbed_ms]
        for p in pairs
    ]
    undisturbed = min(map(len, clean)) * len(clean) >= ENOUGH_ROUNDS
    by_restart = clean if undisturbed else [[math.log(a.all_ms / b.all_ms) for a, b in p] for p in pairs]
    rounds = np.concatenate(by_restart)
    drawn = np.random.default_rng(0).integers(0, len(rounds), (RESAMPLES, len(rounds)))
    low, high = (float(v) for v in np.quantile(np.median(rounds[drawn], axis=1), (TAIL, 1 - TAIL)))
    if len(by_restart) > 2:  # t with one degree of freedom says nothing
        centers = np.array([np.median(r) for r in by_restart])
        middle, half = float(centers.mean()), _t(len(centers) - 1) * _standard_error(centers)
        low, high = min(low, middle - half), max(high, middle + half)
    ends = {"value": math.exp(float(np.median(rounds))), "low": math.exp(low), "high": math.exp(high)}
    return {**ends, "rounds": len(rounds), "undisturbed": undisturbed}


def ratio_of_runs(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """The same for two runs, one after the other: rounds do not pair, so only the spread between restarts counts.

    ours, theirs: each restart's median, at least two of each. Welch's interval for the difference of the mean logs, with
    the degrees of freedom of the smaller group.
    """
    a, b = np.log(ours), np.log(theirs)
    middle = float(a.mean() - b.mean())
    half = _t(min(len(a), len(b)) - 1) * math.hypot(_standard_error(a), _standard_error(b))
    return {name: math.exp(middle + side * half) for name, side in (("value", 0), ("low", -1), ("high", 1))}


def over_restarts(values: Sequence[float]) -> dict[str, float | None]:
    """Their mean (of the logs) with a 95 % interval by Student's t; no interval from one restart."""
    logs = np.log(values)
    value = math.exp(float(logs.mean()))
    if len(logs) < 2:
        return {"value": value, "low": None, "high": None}
    factor = math.exp(_t(len(logs) - 1) * _standard_error(logs))
    return {"value": value, "low": value / factor, "high": value * factor}


def _rank(n: int, q: float) -> int:
    """Index of the q-quantile among n sorted samples; the rounding takes out float noise such as 0.95 * 20 > 19."""
    return max(math.ceil(round(n * q, 9)) - 1, 0)


def _binomial_cdf(n: int, p: float) -> npt.NDArray[np.float64]:
    """[n + 1] the probability of at most k successes in n tries."""
    k = np.arange(1, n + 1)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log(n - k + 1) - np.log(k))])
    successes = np.arange(n + 1)
    return np.cumsum(np.exp(log_choose + successes * math.log(p) + (n - successes) * math.log1p(-p)))


def _standard_error(values: npt.NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _t(freedom: int) -> float:
    return STUDENT_T[freedom - 1] if freedom <= len(STUDENT_T) else NORMAL + 2.5 / freedom
