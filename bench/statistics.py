"""Statistics of timings, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .report import Interval, Ratio, Spread, Summary

TAIL = 0.025  # on either side of a 95 % interval
RESAMPLES = 500
ENOUGH_CALLS = 4  # undisturbed calls that a restart needs to be measured by them alone
# 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom; the normal's beyond the table.
STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
NORMAL = 1.960


def samples_for(q: float) -> int:
    """The number of samples for a 95 % interval of the q-quantile: the largest must exceed the quantile with 97.5 % probability."""
    return math.ceil(math.log(TAIL) / math.log(q))


def percentile(samples: Sequence[float], q: float) -> Interval | None:
    """The q-quantile (the smallest sample with at least the share q at or below it) and its 95 % interval.

    The interval is distribution-free, from order statistics: the k-th smallest of n lies above the quantile with the binomial
    probability of fewer than k of n at or below it. None if n is too small for an upper end.
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


def summary(samples: Sequence[float]) -> Summary:
    """n and the percentiles by name: p50, p90, p95, p99, p99.9."""
    return {
        "n": len(samples),
        "p50": percentile(samples, 0.5),
        "p90": percentile(samples, 0.9),
        "p95": percentile(samples, 0.95),
        "p99": percentile(samples, 0.99),
        "p99.9": percentile(samples, 0.999),
    }


@dataclass(frozen=True)
class Timed:
    """The time of one call, and whether the system interrupted this process during it for another."""

    ms: float
    interrupted: bool


def ratio(ours: Sequence[Sequence[Sequence[Timed]]], theirs: Sequence[Sequence[Sequence[Timed]]]) -> Ratio:
    """The ratio of our time to theirs in one run, with a 95 % interval.

    ours, theirs: each restart's rounds, each round's calls; round i of both ran side by side, so a disturbance affects both. The
    value is the ratio of the medians within a restart, as the geometric mean over restarts. The interval is the wider one of a
    bootstrap over blocks, which are the rounds (noise of the machine), and Student's t over the restarts (two sessions of one file
    differ by a percent or so, depending on where their memory is). If at least half of the restarts have enough undisturbed
    calls, only those calls and restarts count; otherwise all do.
    """
    pairs = list(zip(ours, theirs, strict=True))
    calm = [pair for pair in pairs if min(_undisturbed(rounds) for rounds in pair) >= ENOUGH_CALLS]
    undisturbed = 2 * len(calm) >= len(pairs)
    pairs = calm if undisturbed else pairs
    random = np.random.default_rng(0)
    centers: list[float] = []
    drawn = np.zeros(RESAMPLES)
    for our_rounds, their_rounds in pairs:
        both = min(len(our_rounds), len(their_rounds))  # the numbers of rounds of two contenders may differ by one
        a, b = our_rounds[:both], their_rounds[:both]
        blocks = random.multinomial(len(a), np.full(len(a), 1 / len(a)), RESAMPLES)  # how often each round is drawn
        a_block, b_block = _Blocks.of(a, undisturbed), _Blocks.of(b, undisturbed)
        once = np.ones((1, len(a)), np.int64)
        centers.append(float(np.log(a_block.medians(once) / b_block.medians(once))[0]))
        drawn += np.log(a_block.medians(blocks) / b_block.medians(blocks)) / len(pairs)
    middle = float(np.mean(centers))
    few_blocks = _t(sum(len(a) for a, _ in pairs) - 1) / NORMAL  # a bootstrap of few blocks is too narrow
    low, high = (middle + few_blocks * (float(v) - middle) for v in np.quantile(drawn, (TAIL, 1 - TAIL)))
    if len(centers) > 2:  # t with one degree of freedom says nothing
        half = _t(len(centers) - 1) * _standard_error(np.array(centers))
        low, high = min(low, middle - half), max(high, middle + half)
    return {
        "value": math.exp(middle),
        "low": math.exp(low),
        "high": math.exp(high),
        "rounds": sum(len(a) for a, _ in pairs),
        "undisturbed": undisturbed,
    }


def _undisturbed(rounds: Sequence[Sequence[Timed]]) -> int:
    return sum(not call.interrupted for calls in rounds for call in calls)


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Calls in ascending order, each with its round."""

    ms: npt.NDArray[np.float64]  # [n]
    block: npt.NDArray[np.int64]  # [n]

    @staticmethod
    def of(rounds: Sequence[Sequence[Timed]], undisturbed: bool) -> _Blocks:
        kept = sorted((c.ms, i) for i, calls in enumerate(rounds) for c in calls if not (undisturbed and c.interrupted))
        return _Blocks(np.array([ms for ms, _ in kept]), np.array([i for _, i in kept]))

    def medians(self, drawn: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The median call [R] if block i counts drawn[r, i] times; drawn [R, blocks]."""
        found = np.empty(len(drawn))
        for r, times in enumerate(drawn):
            reached = np.cumsum(times[self.block])
            found[r] = self.ms[min(int(np.searchsorted(reached, reached[-1] / 2)), len(self.ms) - 1)]
        return found


def ratio_of_runs(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """The ratio for two runs, one after the other: rounds do not pair, so only the spread between restarts counts.

    ours, theirs: each restart's median, at least two of each. Welch's interval for the difference of the mean logs, with the
    degrees of freedom of the smaller group.
    """
    a, b = np.log(ours), np.log(theirs)
    middle = float(a.mean() - b.mean())
    half = _t(min(len(a), len(b)) - 1) * math.hypot(_standard_error(a), _standard_error(b))
    return {"value": math.exp(middle), "low": math.exp(middle - half), "high": math.exp(middle + half)}


def over_restarts(values: Sequence[float]) -> Spread:
    """The geometric mean with a 95 % interval by Student's t; no interval for one or two values."""
    logs = np.log(values)
    value = math.exp(float(logs.mean()))
    if len(logs) < 3:
        return {"value": value, "low": None, "high": None}
    factor = math.exp(_t(len(logs) - 1) * _standard_error(logs))
    return {"value": value, "low": value / factor, "high": value * factor}


def _rank(n: int, q: float) -> int:
    """The index of the q-quantile among n sorted samples; rounding removes float noise such as 0.95 * 20 > 19."""
    return max(math.ceil(round(n * q, 9)) - 1, 0)


def _binomial_cdf(n: int, p: float) -> npt.NDArray[np.float64]:
    """The probabilities [n + 1] of at most k successes in n trials."""
    k = np.arange(1, n + 1)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log(n - k + 1) - np.log(k))])
    successes = np.arange(n + 1)
    return np.cumsum(np.exp(log_choose + successes * math.log(p) + (n - successes) * math.log1p(-p)))


def _standard_error(values: npt.NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _t(freedom: int) -> float:
    if freedom < 1:
        return math.inf
    return STUDENT_T[freedom - 1] if freedom <= len(STUDENT_T) else NORMAL + 2.5 / freedom
