"""What a list of timings says, with how sure one may be of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Z_95 = 1.959964  # of the standard normal distribution
RESAMPLES = 2000
PERCENTILES = (0.5, 0.9, 0.95, 0.99, 0.999)


def samples_for(q: float) -> int:
    """How many samples it takes until one of them lies above the q-quantile with 95 % probability."""
    return math.ceil(math.log(0.05) / math.log(q))


def percentile(samples: Sequence[float], q: float) -> dict[str, float] | None:
    """The q-quantile and its 95 % confidence interval from order statistics; None where there are too few samples.

    The k-th smallest of n is below the quantile with the binomial probability of fewer than k of n; the normal
    approximation gives the ranks n q +- 1.96 sqrt(n q (1 - q)).
    """
    n = len(samples)
    if n < samples_for(q):
        return None
    rising = np.sort(np.asarray(samples, np.float64))
    half = Z_95 * math.sqrt(n * q * (1 - q))
    low, middle, high = (round(n * q + offset - 0.5) for offset in (-half, 0.0, half))
    value, below, above = (float(rising[min(max(rank, 0), n - 1)]) for rank in (middle, low, high))
    return {"value": value, "low": below, "high": above}


def summary(samples: Sequence[float]) -> dict[str, Any]:
    """n and the percentiles by name: p50, p90, p95, p99, p99.9."""
    return {"n": len(samples), **{f"p{100 * q:g}": percentile(samples, q) for q in PERCENTILES}}


def ratio(ours: Sequence[float], theirs: Sequence[float], paired: bool) -> dict[str, float]:
    """How many times as long ours takes as theirs, with a 95 % bootstrap interval over rounds.

    Each number is one round's median. Paired: round i of both ran side by side, so that a noisy moment harms both.
    """
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    random = np.random.default_rng(0)
    if paired:
        quotients = a / b
        drawn = np.median(quotients[random.integers(0, len(a), (RESAMPLES, len(a)))], axis=1)
        value = float(np.median(quotients))
    else:
        up = np.median(a[random.integers(0, len(a), (RESAMPLES, len(a)))], axis=1)
        down = np.median(b[random.integers(0, len(b), (RESAMPLES, len(b)))], axis=1)
        drawn, value = up / down, float(np.median(a) / np.median(b))
    low, high = (float(v) for v in np.quantile(drawn, (0.025, 0.975)))
    return {"value": value, "low": low, "high": high}
