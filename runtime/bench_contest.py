"""Contenders take turns, so that a noisy moment of the machine harms all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from ..errors import UsageError
from .bench_statistics import samples_for

SLICE_S, SLICE_CALLS = 0.2, 3  # one turn: at least so long, and so many calls
STABLE, WINDOW, WARM_UP_LIMIT_S = 0.05, 10, 10.0
MIN_ROUNDS = 10


@dataclass(eq=False)
class Contender:
    """One thing to be timed: a call, and what it has shown so far."""

    name: str
    call: Callable[[], object]
    first_call_ms: float = 0.0
    warm_up_calls: int = 0
    stable: bool = False
    samples_ms: list[float] = field(default_factory=lambda: list[float]())
    round_medians_ms: list[float] = field(default_factory=lambda: list[float]())

    def timed_ms(self) -> float:
        """Time one call."""
        start = time.perf_counter()
        self.call()
        return 1000 * (time.perf_counter() - start)

    def warm_up(self) -> None:
        """Call until the medians of two windows in a row differ by at most 5 %, or 10 s have passed."""
        self.first_call_ms = self.timed_ms()
        started, before = time.perf_counter(), None
        while not self.stable and time.perf_counter() - started < WARM_UP_LIMIT_S:
            now = median(self.timed_ms() for _ in range(WINDOW))
            self.warm_up_calls += WINDOW
            self.stable = before is not None and abs(now - before) <= STABLE * before
            before = now

    def turn(self) -> None:
        """One round's turn."""
        started, mine = time.perf_counter(), list[float]()
        while len(mine) < SLICE_CALLS or time.perf_counter() - started < SLICE_S:
            mine.append(self.timed_ms())
        self.samples_ms += mine
        self.round_medians_ms.append(median(mine))


def contest(contenders: Sequence[Contender], seconds: float, quantile: float, progress: Callable[[], object]) -> None:
    """Warm all up, then let them take turns in a new order each round.

    Ends when each has had `seconds`, at least 10 rounds, and the samples that its quantile needs.
    """
    if not contenders:
        raise UsageError("expected at least one model to time, got none")
    for contender in contenders:
        contender.warm_up()
    random, started, needed = np.random.default_rng(0), time.perf_counter(), samples_for(quantile)
    while True:
        for at in random.permutation(len(contenders)):
            contenders[int(at)].turn()
        progress()
        enough = min(len(c.samples_ms) for c in contenders) >= needed
        rounds = len(contenders[0].round_medians_ms)
        if enough and rounds >= MIN_ROUNDS and time.perf_counter() - started >= seconds * len(contenders):
            return
