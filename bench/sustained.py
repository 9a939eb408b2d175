"""One contender working without a pause for minutes, to see whether it becomes slower."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from .contest import Contender
from .report import Sustained, Window
from .sensors import Watch
from .statistics import ratio_of_runs

WINDOWS = 60  # per run, 10 s each in ten minutes
DRIFT = 0.05  # a run that slows down by more is not steady


def sustain(contender: Contender, seconds: float, watch: Watch, progress: Callable[[], object]) -> Sustained:
    """Work for `seconds`; returns each window's median, clock and temperature, and the last third's time divided by the first third's.

    A clock that fell by more than the allowed drift is reported to the watch as throttling.
    """
    contender.start()
    restart, windows, started = contender.restarts[-1], list[Window](), contender.clock()
    while contender.clock() - started < seconds:
        at_s = contender.clock() - started
        restart.rounds.append(contender.calls(seconds / WINDOWS))
        watch.look()
        windows.append(
            {
                "at_s": at_s,
                "p50_ms": median(call.ms for call in restart.rounds[-1]),
                "cpu_mhz": watch.after["cpu_mhz"],
                "gpu_mhz": watch.after["gpu_mhz"],
                "temperature_c": max(watch.after["temperature_c"].values(), default=None),
            }
        )
        progress()
    third = max(len(windows) // 3, 2)
    first, last = windows[:third], windows[-third:]
    drift = ratio_of_runs([w["p50_ms"] for w in last], [w["p50_ms"] for w in first])
    for clock in ("cpu_mhz", "gpu_mhz"):
        was, now = (median(w[clock] or 0 for w in part) for part in (first, last))
        if now < (1 - DRIFT) * was:
            watch.said[f"{clock} fell from {was:g} to {now:g}"] = None
    return {"windows": windows, "drift": drift, "steady": drift["low"] <= 1 + DRIFT}
