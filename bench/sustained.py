"""One contender at work without a pause, for minutes: does it stay as fast as it began?"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from .contest import Contender
from .report import Sustained, Window
from .sensors import Watch
from .statistics import ratio_of_runs

WINDOWS = 60  # of a run, 10 s each in ten minutes
DRIFT = 0.05  # slower than this at the end is not steady


def sustain(contender: Contender, seconds: float, watch: Watch, progress: Callable[[], object]) -> Sustained:
    """Work for `seconds`; each window's median, clock and temperature; the last third's time over the first third's.

    A clock that fell by more than the drift allowed goes to the watch as throttling.
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
