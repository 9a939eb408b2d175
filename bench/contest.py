"""Time contenders in turns, so that a disturbance of the machine affects all of them alike.

For each call it is recorded whether the system interrupted it for another process (involuntary context switches). Percentiles
use all calls. Ratios use undisturbed calls if there are enough, because on a busy machine the median call is mostly
disturbance.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median

import numpy as np

try:
    import resource
except ImportError:  # Windows
    resource = None

from ..errors import UsageError
from ..runtime.system import resident_mb
from .statistics import Timed, samples_for

SLICE_S = 0.01  # minimum length of a turn: the noise of a shared machine changes within tens of milliseconds
STABLE, WINDOW_CALLS, WINDOW_S, WARM_UP_LIMIT_S = 0.05, 10, 1.0, 10.0
MIN_ROUNDS = 6

Call = Callable[[], object]


def _nothing() -> None:
    """The call of a contender that is not open."""


@dataclass(eq=False)
class Restart:
    """The measurements of a contender between being opened and being closed."""

    load_ms: float
    rss_mb: float  # growth of resident memory while it was opened and warmed up
    first_call_ms: float
    warm_up_calls: int = 0
    warm_ms: float = 0.0  # the fastest call of the last window
    stable: bool = False
    rounds: list[list[Timed]] = field(default_factory=lambda: list[list[Timed]]())

    @property
    def samples_ms(self) -> list[float]:
        """Every timed call."""
        return [call.ms for calls in self.rounds for call in calls]

    @property
    def undisturbed_ms(self) -> list[float]:
        """The calls that the system did not interrupt."""
        return [call.ms for calls in self.rounds for call in calls if not call.interrupted]


@dataclass(eq=False)
class Contender:
    """One contender: a function that opens it and returns the call to time, and its measurements so far."""

    open: Callable[[], Call]
    clock: Callable[[], float] = time.perf_counter
    call: Call = _nothing
    restarts: list[Restart] = field(default_factory=lambda: list[Restart]())

    def start(self) -> None:
        """Open it again and warm it up, until the medians of two windows differ by at most 5 %, or 10 s have passed."""
        before_mb, started = resident_mb(), self.clock()
        self.call = self.open()
        load_ms = 1000 * (self.clock() - started)
        restart = Restart(load_ms, 0.0, self.timed().ms)
        self.restarts.append(restart)
        started, before = self.clock(), None
        while not restart.stable and self.clock() - started < WARM_UP_LIMIT_S:
            window = self.calls(WINDOW_S, WINDOW_CALLS)
            now, restart.warm_ms = (pick(call.ms for call in window) for pick in (median, min))
            restart.warm_up_calls += len(window)
            restart.stable = before is not None and abs(now - before) <= STABLE * before
            before = now
        restart.rss_mb = resident_mb() - before_mb

    def close(self) -> None:
        """Close it, and free its memory."""
        self.call = _nothing
        gc.collect()
        # glibc keeps freed memory, so the next opening would seem to need none.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)

    def timed(self) -> Timed:
        """Time one call."""
        switches, started = _interruptions(), self.clock()
        self.call()
        ms = 1000 * (self.clock() - started)
        return Timed(ms, _interruptions() > switches)

    def turn(self) -> list[Timed]:
        """The times of one turn. A contender with short calls makes one call first that does not count: it restores the caches that
        the other contenders' turns have overwritten.
        """
        if self.restarts[-1].warm_ms > 1000 * SLICE_S:
            return [self.timed()]
        self.call()
        return self.calls(SLICE_S)

    def calls(self, seconds: float, at_most: int | None = None) -> list[Timed]:
        """The times of consecutive calls, for this long (or at most this many)."""
        started = self.clock()
        times = [self.timed()]
        while self.clock() - started < seconds and len(times) != at_most:
            times.append(self.timed())
        return times


def _interruptions() -> int:
    """How often the system has interrupted this process so far, although it had work; 0 if the system does not report it."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def contest(
    contenders: Sequence[Contender], seconds: float, quantile: float, restarts: int, progress: Callable[[], object]
) -> None:
    """Run the contest: each round lets all contenders take a turn in a new order, and then in reverse (A B B A).

    Everything is closed and opened again `restarts` times. The contest ends when each contender has had `seconds`, at least 6
    rounds, and the samples that its quantile needs.
    """
    if not contenders:
        raise UsageError("expected at least one model to time, got none")
    random, clock = np.random.default_rng(0), contenders[0].clock
    rounds, samples = -(-MIN_ROUNDS // restarts), -(-samples_for(quantile) // restarts)
    for _ in range(restarts):
        for contender in contenders:
            contender.close()
            contender.start()
        started = clock()
        while True:
            order = [int(i) for i in random.permutation(len(contenders))]
            turns: list[list[Timed]] = [[] for _ in contenders]
            for i in (*order, *reversed(order)):
                turns[i] += contenders[i].turn()
            for contender, times in zip(contenders, turns, strict=True):
                contender.restarts[-1].rounds.append(times)
            progress()
            enough = min(sum(map(len, c.restarts[-1].rounds)) for c in contenders) >= samples
            done = len(contenders[0].restarts[-1].rounds) >= rounds
            if enough and done and clock() - started >= seconds * len(contenders) / restarts:
                break
