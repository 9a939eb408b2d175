"""Exact confidence intervals of a proportion: Clopper and Pearson (1934), by inverting the binomial distribution."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

STEPS = 60  # bisection steps of [0, 1]: beyond the resolution of a double


@functools.lru_cache(maxsize=100_000)
def clopper_pearson(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The two-sided interval of a proportion with `hits` successes in n >= 1 trials."""
    tail = (1 - confidence) / 2
    return _lower(hits, n, tail), 1 - _lower(n - hits, n, tail)


@functools.lru_cache(maxsize=100_000)
def upper_bound(hits: int, n: int, confidence: float = 0.95) -> float:
    """The one-sided upper bound: with a larger proportion, `hits` or fewer have a probability below 1 - confidence."""
    return 1 - _lower(n - hits, n, 1 - confidence)


def _lower(hits: int, n: int, tail: float) -> float:
    """The proportion at which `hits` or more of n have the probability `tail`."""
    if hits == 0:
        return 0.0
    ways = _log_ways(n)[hits:]
    many = np.arange(hits, n + 1)
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        terms = ways + many * math.log(middle) + (n - many) * math.log1p(-middle)
        low, high = (middle, high) if np.exp(terms).sum() < tail else (low, middle)
    return (low + high) / 2


@functools.lru_cache(maxsize=4096)
def _log_ways(n: int) -> npt.NDArray[np.float64]:
    """The logarithms [n + 1] of the binomial coefficients n over k."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    return factorials[n] - factorials - factorials[::-1]
