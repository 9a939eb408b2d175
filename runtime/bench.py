"""Latency and throughput of models on this machine, as percentiles with confidence and as ratios between contenders.

Contenders take turns in one process (A B, B A, …), after a warm-up that lasts until timings are stable. Scenarios follow
MLPerf's rules: single-stream reports the 90th percentile of one call after another, multi-stream the 99th of calls with
eight faces, offline faces per second,
pipeline the way from a clip's frame to its result by stage. Times on a shared machine are noise; ratios of one run
are what to compare.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import UsageError
from .bench_contest import Contender, contest
from .bench_environment import environment, peaks, resident_mb, state
from .bench_markdown import markdown
from .bench_pipeline import bench_pipeline
from .bench_statistics import ratio, summary
from .detect import open_detector
from .json_report import write_json
from .model import Model, load
from .model_file import resolve
from .sessions import DEVICES

SCHEMA_VERSION = 1
SCENARIOS = {"single-stream": 0.9, "multi-stream": 0.99, "offline": 0.5}  # and the quantile each is judged by
DEFAULT_BATCH = {"single-stream": [1], "multi-stream": [8], "offline": [32]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip bench`."""
    parser.add_argument("models", nargs="+", metavar="MODEL", help="models by name or file; the first is the yardstick")
    parser.add_argument("--scenario", choices=[*SCENARIOS, "pipeline"], default="single-stream", help="what is timed")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where the models run")
    parser.add_argument(
        "--batch", type=_numbers, metavar="1,2,…", help="faces per call (1; multi-stream 8; offline 32)"
    )
    parser.add_argument("--threads", type=_numbers, default=[1], metavar="1,2,…", help="CPU threads per call")
    parser.add_argument(
        "--rivals",
        nargs="+",
        default=[],
        metavar="KIND:TOWER",
        help="also eager:nano, clip:ViT-B-16, … (export/rivals.py)",
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="at least so long per contender")
    parser.add_argument("--clip", metavar="FILE", help="a video with a face, for --scenario pipeline")
    parser.add_argument("--detector", choices=["auto", "yunet", "haar"], default="auto", help="for the pipeline")
    parser.add_argument("--frames", type=int, default=150, help="frames of the clip to time")
    parser.add_argument("--json", metavar="FILE|-", help="the report as one JSON object, to a file or to stdout")


def run(args: argparse.Namespace) -> int:
    """Time, and report as a table or JSON."""
    if args.seconds <= 0 or args.frames < 1:
        raise UsageError("expected --seconds and --frames above 0")
    if args.scenario == "pipeline" and not args.clip:
        raise UsageError("--scenario pipeline needs --clip FILE, a video with a face; `numclip demo` makes one")
    before = state()
    rows = _pipeline_rows(args) if args.scenario == "pipeline" else _model_rows(args)
    report = {
        "schema_version": SCHEMA_VERSION,
        "scenario": args.scenario,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "environment": environment(),
        "peaks": peaks(),
        "state": {"before": before, "after": state()},
        "rows": rows,
    }
    if args.json:
        write_json(args.json, report)
    if args.json != "-":
        print(markdown(report))
        print(
            "\nnext: numclip bench … --json a.json, change one thing, --json b.json, then: numclip compare a.json b.json"
        )
    return 0


def _model_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every model with every batch size and number of threads, taking turns."""
    found: list[tuple[Contender, dict[str, Any]]] = []
    for name in args.models:
        for threads in args.threads:
            before_mb, start = resident_mb(), time.perf_counter()
            model = load(name, args.device, threads)
            facts = {**_facts(name, model), "threads": threads, "load_ms": 1000 * (time.perf_counter() - start)}
            for batch in args.batch or DEFAULT_BATCH[args.scenario]:
                contender = Contender(f"{name} x{batch} t{threads}", _call(model, model.spec.crop.side, batch))
                found.append((contender, {**facts, "batch": batch}))
            facts["rss_mb"] = round(resident_mb() - before_mb, 1)
    found += _rivals(args)
    with tqdm(unit="round", disable=None, leave=False, file=sys.stderr) as bar:
        contest([c for c, _ in found], args.seconds, SCENARIOS[args.scenario], bar.update)
    yardstick = found[0][0].round_medians_ms
    return [_row(contender, facts, yardstick) for contender, facts in found]


def _rivals(args: argparse.Namespace) -> list[tuple[Contender, dict[str, Any]]]:
    """The rivals that the command line joins, with random weights, on the CPU."""
    found: list[tuple[Contender, dict[str, Any]]] = []
    for name in args.rivals:
        for threads in args.threads:
            for batch in args.batch or DEFAULT_BATCH[args.scenario]:
                start = time.perf_counter()
                rival = args._open_rival(name, threads)
                facts = {
                    "model": f"{name} (random weights)",
                    "multiply_adds": rival.multiply_adds,
                    "mae": [],
                    "session": rival.session,
                    "threads": threads,
                    "load_ms": 1000 * (time.perf_counter() - start),
                    "batch": batch,
                }
                found.append((Contender(f"{name} x{batch} t{threads}", _call(rival, rival.side, batch)), facts))
    return found


def _row(contender: Contender, facts: dict[str, Any], yardstick_ms: list[float]) -> dict[str, Any]:
    latency = summary(contender.samples_ms)
    middle_ms = float(np.median(contender.samples_ms))
    return {
        **facts,
        "first_call_ms": contender.first_call_ms,
        "warm_up_calls": contender.warm_up_calls,
        "stable": contender.stable,
        "latency_ms": latency,
        "faces_per_s": 1000 * facts["batch"] / middle_ms,
        "gflop_s": None if not facts["multiply_adds"] else 2e-6 * facts["multiply_adds"] * facts["batch"] / middle_ms,
        "round_medians_ms": contender.round_medians_ms,
        "ratio_to_first": ratio(contender.round_medians_ms, yardstick_ms, paired=True),
    }


def _pipeline_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    detector = open_detector(args.detector)
    rows: list[dict[str, Any]] = []
    for name in args.models:
        for threads in args.threads:
            model = load(name, args.device, threads)
            facts = {**_facts(name, model), "threads": threads, "detector": detector.name, "clip": Path(args.clip).name}
            rows += [{**facts, **row} for row in bench_pipeline(model, detector, args.clip, args.frames)]
    return rows


def _facts(name: str, model: Model) -> dict[str, Any]:
    """What identifies a contender: which bytes, how good, how large, what runs it."""
    path = resolve(name)
    data = path.read_bytes()
    spec = model.spec
    return {
        "model": Path(name).name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "file_bytes": len(data),
        "multiply_adds": spec.graph.get("multiply_adds"),
        "mae": [{"data": m.get("data"), "mae": m.get("mae")} for m in spec.metrics],
        "parity": dict(spec.parity),
        "session": model.session.describe(),
    }


def _call(model: Any, side: int, batch: int) -> Any:
    """One call on `batch` smooth random crops; what is on them does not change what is computed."""
    random = np.random.default_rng(0)
    crops = random.integers(0, 256, (batch, side, side, 3), np.uint8)
    return lambda: model(crops)


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"expected whole numbers above 0 with commas, got {text!r}")
    return numbers
