"""Run a benchmark: time the contenders, compute one row of figures for each, and make the report."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import mean, median

from tqdm import tqdm

from ..errors import UsageError
from ..runtime.contract.model_file import read_spec, resolve
from ..runtime.faces.opening import open_detector
from ..runtime.sessions.model import load
from ..runtime.system import environment
from .contenders import Entry, entries, facts_of
from .contest import Call, contest
from .crops import Faces
from .energy import energy_per_face
from .options import BenchOptions, Scenario
from .peaks import peaks
from .pipeline import bench_pipeline
from .report import SCHEMA_VERSION, Absent, ContestReport, Peak, PipelineReport, PipelineRow, Report, Row, Sustained
from .sensors import Sensors, Watch
from .statistics import ENOUGH_CALLS, over_restarts, ratio, summary
from .sustained import sustain

# The quantile that each scenario reports, as in MLPerf; offline reports its rate.
JUDGED_BY: dict[Scenario, float] = {"single-stream": 0.9, "multi-stream": 0.99, "offline": 0.5}
PAIRS = 30
YARDSTICK = "age-nano"  # its crop contract crops the faces; every age model shares its template


def bench(options: BenchOptions) -> Report:
    """Time what the options name, and return the report (docs/bench.schema.json).

    Raises UsageError for what cannot be timed, and the errors of opening a model.
    """
    return _bench_pipeline(options) if options.scenario == "pipeline" else _bench_models(options)


def _bench_models(options: BenchOptions) -> ContestReport:
    sensors = Sensors()
    watch, absent = Watch(sensors), list[Absent]()
    top = [peaks(threads) for threads in options.threads]
    faces = Faces(options.pictures, open_detector(options.detector), read_spec(resolve(YARDSTICK)).crop)
    found = list(entries(options, faces, sensors, absent))
    if not found:
        raise UsageError("no contender can run here: " + absent[0]["reason"])
    extra = _compete(options, found, watch)
    top = [_better(peak, peaks(peak["threads"])) for peak in top]
    rows: list[Row] = [
        {**_row(entry, _yardstick(entry, found), top, sensors), **more}
        for entry, more in zip(found, extra, strict=True)
    ]
    watch.look()
    assert options.scenario != "pipeline"
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario": options.scenario,
        "date": _today(),
        "environment": environment(),
        "absent": absent,
        "energy_unreadable": sensors.unreadable,
        "crops": faces.said,
        "restarts": _restarts(options),
        "seconds": options.duration_s,
        "peaks": top,
        "rows": rows,
        "state": {"before": watch.before, "after": watch.after},
        "valid": not watch.said,
        "invalid_because": list(watch.said),
    }


def _bench_pipeline(options: BenchOptions) -> PipelineReport:
    sensors = Sensors()
    watch = Watch(sensors)
    rows = list(_pipeline_rows(options))
    watch.look()
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario": "pipeline",
        "date": _today(),
        "environment": environment(),
        "absent": [],
        "energy_unreadable": sensors.unreadable,
        "rows": rows,
        "state": {"before": watch.before, "after": watch.after},
        "valid": not watch.said,
        "invalid_because": list(watch.said),
    }


def _today() -> str:
    return datetime.now(timezone.utc).date().isoformat()


def _restarts(options: BenchOptions) -> int:
    return 1 if options.scenario == "sustained" else options.restarts


def _compete(options: BenchOptions, found: Sequence[Entry], watch: Watch) -> list[Sustained]:
    """Time all contenders; returns what a sustained run adds to each row, nothing for other scenarios."""

    def progress() -> None:
        bar.update()
        watch.look_now_and_then()

    with tqdm(unit="round", disable=None, leave=False, file=sys.stderr) as bar:
        if options.scenario == "sustained":
            return [sustain(entry.contender, options.duration_s, watch, progress) for entry in found]
        contenders = [entry.contender for entry in found]
        contest(contenders, options.duration_s, JUDGED_BY[options.scenario], options.restarts, progress)
        return [{} for _ in found]


def _yardstick(entry: Entry, found: Sequence[Entry]) -> Entry:
    """The first contender with the same batch size, which ratios are relative to."""
    return next(other for other in found if other.facts["batch"] == entry.facts["batch"])


def _row(entry: Entry, yardstick: Entry, top: Sequence[Peak], sensors: Sensors) -> Row:
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
        # Measured after the turns: energy, and the time that readings add to a session's outputs.
        "energy": energy_per_face(entry.contender.call, facts["batch"], sensors.rails),
        "readings_ms": None if entry.read is None else _extra_ms(entry.contender.call, entry.read),
    }


def _extra_ms(call: Call, read: Call) -> float:
    """The median, over 30 pairs, of the extra time of the second call, in ms."""
    extra: list[float] = []
    for _ in range(PAIRS):
        times = [time.perf_counter()]
        for each in (call, read):
            each()
            times.append(time.perf_counter())
        extra.append(1000 * (times[2] - 2 * times[1] + times[0]))
    return median(extra)


def _better(one: Peak, two: Peak) -> Peak:
    return {
        "threads": one["threads"],
        "gemm_gflops": max(one["gemm_gflops"], two["gemm_gflops"]),
        "copy_gb_s": max(one["copy_gb_s"], two["copy_gb_s"]),
    }


def _pipeline_rows(options: BenchOptions) -> Iterator[PipelineRow]:
    detector, clip = open_detector(options.detector), options.clip or ""
    for device in options.devices:
        for name in options.models:
            for threads in options.threads:
                model = load(name, device, threads)
                facts = facts_of(name, model, device, threads)
                for row in bench_pipeline(model, detector, clip, options.frames):
                    yield {**facts, "detector": detector.name, "clip": Path(clip).name, **row}
