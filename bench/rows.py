"""A benchmark's measurements: the contest between its contenders, one row of figures for each, and the whole report."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import mean, median
from typing import Any

from tqdm import tqdm

from ..errors import UsageError
from ..runtime.contract.model_file import read_spec, resolve
from ..runtime.faces.detect import open_detector
from ..runtime.sessions.model import load
from ..runtime.system import environment, peaks
from .contenders import Entry, entries, facts_of, identity
from .contest import Call, contest
from .crops import Faces
from .energy import energy_per_face
from .pipeline import bench_pipeline
from .sensors import Sensors, Watch
from .statistics import ENOUGH_CALLS, over_restarts, ratio, summary
from .sustained import sustain

SCHEMA_VERSION = 2
# The quantile each scenario is judged by, as MLPerf has it; offline is judged by its rate.
SCENARIOS = {"single-stream": 0.9, "multi-stream": 0.99, "offline": 0.5, "sustained": 0.9}
PAIRS = 30
YARDSTICK = "age-nano"  # whose crop contract cuts the faces; every age model shares its template


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The whole report of one benchmark, as JSON takes it (docs/bench.schema.json)."""
    sensors = Sensors()
    watch = Watch(sensors)
    top = [] if args.scenario == "pipeline" else [peaks(threads) for threads in args.threads]
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "scenario": args.scenario,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "environment": environment(),
        "absent": [],
        "energy_unreadable": sensors.unreadable,
    }
    if args.scenario == "pipeline":
        report["rows"] = list(_pipeline_rows(args))
    else:
        faces = Faces(args.faces, open_detector(args.detector), read_spec(resolve(YARDSTICK)).crop)
        found = list(entries(args, faces, sensors, report["absent"]))
        if not found:
            raise UsageError("expected at least one contender that can run here; " + report["absent"][0]["reason"])
        _compete(args, found, watch)
        top = [_better(peak, peaks(peak["threads"])) for peak in top]
        report |= {"crops": faces.said, "restarts": args.restarts, "seconds": args.seconds, "peaks": top}
        report["rows"] = [{**_row(e, _yardstick(e, found), top), **_after(e, sensors)} for e in found]
    watch.look()
    return {
        **report,
        "state": {"before": watch.before, "after": watch.after},
        "valid": not watch.said,
        "invalid_because": list(watch.said),
    }


def _compete(args: argparse.Namespace, found: Sequence[Entry], watch: Watch) -> None:
    contenders = [entry.contender for entry in found]

    def progress() -> None:
        bar.update()
        watch.look_now_and_then()

    with tqdm(unit="round", disable=None, leave=False, file=sys.stderr) as bar:
        if args.scenario == "sustained":
            for entry in found:
                entry.facts |= sustain(entry.contender, args.seconds, watch, progress)
        else:
            contest(contenders, args.seconds, SCENARIOS[args.scenario], args.restarts, progress)


def _yardstick(entry: Entry, found: Sequence[Entry]) -> Entry:
    """The first contender with the same batch size."""
    return next(other for other in found if other.facts["batch"] == entry.facts["batch"])


def _row(entry: Entry, yardstick: Entry, top: Sequence[dict[str, Any]]) -> dict[str, Any]:
    facts, restarts = entry.facts, entry.contender.restarts
    peak = next(p for p in top if p["threads"] == facts["threads"])
    samples_ms = [ms for r in restarts for ms in r.samples_ms]
    undisturbed_ms, flop = [ms for r in restarts for ms in r.undisturbed_ms], facts["flop_per_call"]
    p50_s = median(undisturbed_ms if len(undisturbed_ms) >= ENOUGH_CALLS else samples_ms) / 1000
    return {
        **facts,
        "load_ms": median(r.load_ms for r in restarts),
        "first_call_ms": median(r.first_call_ms for r in restarts),
        "warm_up_calls": sum(r.warm_up_calls for r in restarts),
        "stable": all(r.stable for r in restarts),
        "rss_mb": round(max(r.rss_mb for r in restarts), 1),
        "latency_ms": summary(samples_ms),
        "faces_per_s": over_restarts([1000 * facts["batch"] / mean(r.samples_ms) for r in restarts]),
        "interrupted": 1 - len(undisturbed_ms) / len(samples_ms),
        "restarts": [
            {
                "p50_ms": median(r.samples_ms),
                "undisturbed_p50_ms": median(r.undisturbed_ms) if len(r.undisturbed_ms) >= ENOUGH_CALLS else None,
            }
            for r in restarts
        ],
        "ratio_to_first": ratio(*([r.rounds for r in c.restarts] for c in (entry.contender, yardstick.contender))),
        "gemm_share": None if flop is None else flop / p50_s / 1e9 / peak["gemm_gflops"],
        "copy_share": facts["bytes_per_call"] / p50_s / 1e9 / peak["copy_gb_s"],
    }


def _after(entry: Entry, sensors: Sensors) -> dict[str, Any]:
    """What is measured when the turns are over: energy, and what readings add to a session's outputs."""
    energy = energy_per_face(entry.contender.call, entry.facts["batch"], sensors.rails)
    return {
        "energy": energy,
        "readings_ms": None if entry.read is None else _extra_ms(entry.contender.call, entry.read),
    }


def _extra_ms(call: Call, read: Call) -> float:
    """Median over 30 pairs of how much longer the second call takes."""
    extra: list[float] = []
    for _ in range(PAIRS):
        times = [time.perf_counter()]
        for each in (call, read):
            each()
            times.append(time.perf_counter())
        extra.append(1000 * (times[2] - 2 * times[1] + times[0]))
    return median(extra)


def _better(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    return {name: max(one[name], two[name]) for name in one}


def _pipeline_rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    detector = open_detector(args.detector)
    for device in args.device:
        for name in args.models:
            for threads in args.threads:
                model = load(name, device, threads)
                facts = {**identity(name, model), **facts_of(model), "device": device, "threads": threads}
                facts |= {"detector": detector.name, "clip": Path(args.clip).name}
                yield from ({**facts, **row} for row in bench_pipeline(model, detector, args.clip, args.frames))
