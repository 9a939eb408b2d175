"""A benchmark's measurements: contenders from models and rivals, the contest between them, one row of figures for each."""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ..errors import NumclipError, UsageError
from .bench_contest import Call, Contender, contest
from .bench_crops import Faces
from .bench_energy import energy_per_face
from .bench_environment import environment, peaks
from .bench_pipeline import bench_pipeline
from .bench_sensors import Sensors, Watch
from .bench_statistics import ENOUGH_CALLS, over_restarts, ratio, summary
from .bench_sustained import sustain
from .detect import open_detector
from .model import Model, load
from .model_file import read_spec, resolve

SCHEMA_VERSION = 2
# The quantile each scenario is judged by, as MLPerf has it; offline is judged by its rate.
SCENARIOS = {"single-stream": 0.9, "multi-stream": 0.99, "offline": 0.5, "sustained": 0.9}
DEFAULT_BATCH = {"single-stream": [1], "multi-stream": [8], "offline": [32], "sustained": [1]}
PAIRS = 30
RIVAL = re.compile(r"[a-z0-9-]+:(?![\\/])|mobilenet-025$")  # export/rivals.py: KIND:TOWER; not a path with a drive
ON_EVERY_DEVICE = "random:"
YARDSTICK = "age-nano"  # whose crop contract cuts the faces; every age model shares its template


@dataclass(eq=False)
class Entry:
    """A contender with what identifies it."""

    contender: Contender
    facts: dict[str, Any]
    read: Call | None = None  # the whole model, readings and all, while it is open


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
        entries = list(_entries(args, faces, sensors, report["absent"]))
        if not entries:
            raise UsageError("expected at least one contender that can run here; " + report["absent"][0]["reason"])
        _compete(args, entries, watch)
        top = [_better(peak, peaks(peak["threads"])) for peak in top]
        report |= {"crops": faces.said, "restarts": args.restarts, "seconds": args.seconds, "peaks": top}
        report["rows"] = [{**_row(e, _yardstick(e, entries), top), **_after(e, sensors)} for e in entries]
    watch.look()
    return {
        **report,
        "state": {"before": watch.before, "after": watch.after},
        "valid": not watch.said,
        "invalid_because": list(watch.said),
    }


def _entries(args: argparse.Namespace, faces: Faces, sensors: Sensors, absent: list[dict[str, str]]) -> Iterator[Entry]:
    """Every contender on every device with every batch size and number of threads; what cannot run here is an error, or
    with --skip-absent a line in `absent`. A rival in PyTorch runs beside the first device only."""
    for batch in args.batch or DEFAULT_BATCH[args.scenario]:
        for threads in args.threads:
            for at, device in enumerate(args.device):
                for name in args.models:
                    rival = RIVAL.match(name) is not None
                    if rival and at > 0 and not name.startswith(ON_EVERY_DEVICE):
                        continue
                    try:
                        if rival:
                            yield _rival_entry(args._open_rival(name, threads, device), name, threads, batch, faces)
                        else:
                            yield _model_entry(name, device, threads, batch, faces, sensors)
                    except (NumclipError, ModuleNotFoundError) as error:
                        if not args.skip_absent:
                            raise
                        line = {"model": Path(name).name, "device": device, "reason": str(error)}
                        if line not in absent:
                            absent.append(line)


def _model_entry(name: str, device: str, threads: int, batch: int, faces: Faces, sensors: Sensors) -> Entry:
    """A model file on a device. Opened once before the contest, so that a load finds its libraries and its file warm."""
    before_mb, model = sensors.gpu_mb(), load(name, device, threads)
    crops = faces.crops(model.spec.crop.side, batch)
    model.session.run(crops)
    after_mb, identity = sensors.gpu_mb(), _identity(name)
    facts = {
        **identity,
        **_of_model(model),
        **_work(model.spec.graph.get("multiply_adds"), identity["file_bytes"], crops),
        "gpu_mb": None if before_mb is None or after_mb is None else after_mb - before_mb,
        "device": device,
        "threads": threads,
    }

    def open_anew() -> Call:
        opened = load(name, device, threads)
        entry.read = lambda: opened(crops)
        return lambda: opened.session.run(crops)

    entry = Entry(Contender(open_anew), facts)
    return entry


def _rival_entry(rival: Any, name: str, threads: int, batch: int, faces: Faces) -> Entry:
    """A rival that the command line opened (export/rivals.py)."""
    crops = faces.crops(rival.side, batch)
    facts = {
        "model": f"{name} (random weights)",
        "sha256": None,
        "file_bytes": None,
        "multiply_adds": rival.multiply_adds,
        "mae": [],
        "parity": {},
        "session": rival.session,
        **_work(rival.multiply_adds, rival.weight_bytes, crops),
        "gpu_mb": None,
        "device": rival.session["device"],
        "threads": threads,
    }

    def open_anew() -> Call:
        call = rival.open()
        return lambda: call(crops)

    return Entry(Contender(open_anew), facts)


def _compete(args: argparse.Namespace, entries: Sequence[Entry], watch: Watch) -> None:
    contenders = [entry.contender for entry in entries]

    def progress() -> None:
        bar.update()
        watch.look_now_and_then()

    with tqdm(unit="round", disable=None, leave=False, file=sys.stderr) as bar:
        if args.scenario == "sustained":
            for entry in entries:
                entry.facts |= sustain(entry.contender, args.seconds, watch, progress)
        else:
            contest(contenders, args.seconds, SCENARIOS[args.scenario], args.restarts, progress)


def _yardstick(entry: Entry, entries: Sequence[Entry]) -> Entry:
    """The first contender with the same batch size."""
    return next(other for other in entries if other.facts["batch"] == entry.facts["batch"])


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
                "undisturbed_p50_ms": median(r.undisturbed_ms) if r.undisturbed_ms else None,
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
                facts = {**_identity(name), **_of_model(model), "device": device, "threads": threads}
                facts |= {"detector": detector.name, "clip": Path(args.clip).name}
                yield from ({**facts, **row} for row in bench_pipeline(model, detector, args.clip, args.frames))


def _identity(name: str) -> dict[str, Any]:
    """Which bytes."""
    data = resolve(name).read_bytes()
    return {"model": Path(name).name, "sha256": hashlib.sha256(data).hexdigest(), "file_bytes": len(data)}


def _of_model(model: Model) -> dict[str, Any]:
    """How good, how much work per face, what runs it."""
    spec = model.spec
    return {
        "multiply_adds": spec.graph.get("multiply_adds"),
        "mae": [{"data": m.get("data"), "split": m.get("split"), "mae": m.get("mae")} for m in spec.metrics],
        "parity": dict(spec.parity),
        "session": model.session.describe(),
    }


def _work(multiply_adds: int | None, weight_bytes: int, crops: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Per call: operations, and the bytes that have to move at the least, every weight once and the crops."""
    flop = None if multiply_adds is None else 2 * multiply_adds * len(crops)
    return {"batch": len(crops), "flop_per_call": flop, "bytes_per_call": weight_bytes + crops.nbytes}
