"""Energy per face and power rail: a contender works alone for a few seconds while the machine's rails are read.

This is separate from the timed turns, because reading sensors takes time, and because a rail's own filter is slower than a turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from .report import Energy
from .sensors import Rail

SECONDS, INTERVAL_S = 3.0, 0.02


def energy_per_face(
    call: Callable[[], object], faces: int, rails: Sequence[Rail], seconds: float = SECONDS
) -> list[Energy]:
    """Per rail: mean watts at rest and at work, and millijoules per face, in total and above rest; [] without rails."""
    if not rails:
        return []
    rest_w, _ = _watts(rails, lambda: time.sleep(INTERVAL_S), seconds)
    work_w, calls_per_s = _watts(rails, call, seconds)
    return [
        {
            "rail": rail.name,
            "rest_w": rest,
            "work_w": work,
            "mj_per_face": 1000 * work / (calls_per_s * faces),
            "mj_per_face_above_rest": 1000 * (work - rest) / (calls_per_s * faces),
        }
        for rail, rest, work in zip(rails, rest_w, work_w, strict=True)
    ]


def _watts(rails: Sequence[Rail], call: Callable[[], object], seconds: float) -> tuple[list[float], float]:
    """The mean power of each rail while `call` runs repeatedly, and the calls per second.

    A counter of joules is read at both ends; a meter of watts by a thread every 20 ms.
    """
    meters = [rail.watts for rail in rails if rail.watts is not None]
    readings: list[list[float]] = [[read() for read in meters]]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(INTERVAL_S):
            readings.append([read() for read in meters])

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    before = [rail.joules() if rail.joules else 0.0 for rail in rails]
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        call()
        calls += 1
    took_s = time.perf_counter() - started
    after = [rail.joules() if rail.joules else 0.0 for rail in rails]
    done.set()
    thread.join()
    means = iter([sum(column) / len(column) for column in zip(*readings)])
    watts = [
        next(means) if rail.watts is not None else _grown(b, a, rail.wraps_at_j) / took_s
        for rail, b, a in zip(rails, before, after, strict=True)
    ]
    return watts, calls / took_s


def _grown(before: float, after: float, wraps_at: float) -> float:
    return after - before if after >= before else after - before + wraps_at
