"""Latency and throughput of models on this machine, as percentiles with confidence and as ratios between contenders.

Contenders take turns in one process (A B B A, in a new order each round), after a warm-up that lasts until timings are
stable. Scenarios bear MLPerf's names and are judged as there: single-stream by the 90th percentile of one call after
another, multi-stream by the 99th of calls with eight faces, offline by faces per second; sustained works for ten minutes
and watches for drift; pipeline times the way from a clip's frame to its result by stage. Times on a shared machine are
noise; ratios of one run are what to compare.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..bench.options import FRAMES, RESTARTS, SCENARIOS, SECONDS, SUSTAINED_SECONDS, BenchOptions
from ..errors import UsageError
from ..runtime.contract.model_file import FINDER
from ..runtime.places import write_json
from ..runtime.sessions.session import DEVICES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip bench`."""
    add = parser.add_argument
    add(
        "models",
        nargs="*",
        metavar="MODEL",
        help="models by name or file, and rivals as in eager:nano or clip:ViT-B-16 (docs/bench.md); the first is the yardstick",
    )
    add("--scenario", choices=SCENARIOS, default=SCENARIOS[0], help="what is timed")
    add("--device", type=_devices, default="auto", metavar="A,B,…", help=f"each of {', '.join(DEVICES)}")
    add("--batch", type=_numbers, metavar="1,2,…", help="faces per call (default: 1; multi-stream 8; offline 32)")
    add("--threads", type=_numbers, default="1", metavar="1,2,…", help="CPU threads per call")
    add("--skip-absent", action="store_true", help="list what cannot run here, with the reason, and time the rest")
    add(
        "--seconds",
        type=float,
        help=f"at least so long per contender (default: {SECONDS:g}; sustained {SUSTAINED_SECONDS:g})",
    )
    add("--restarts", type=int, default=RESTARTS, help="how often everything is opened anew")
    add("--pictures", metavar="SOURCE", help="pictures or a clip whose faces are timed (default: two portraits)")
    add("--clip", metavar="FILE", help="a video with a face, for --scenario pipeline")
    add("--detector", metavar="NAME|FILE", default=FINDER, help="for the pipeline and --pictures")
    add("--frames", type=int, default=FRAMES, help="frames of the clip to time")
    add("--json", metavar="FILE|-", help="the report as one JSON object (docs/bench.schema.json), or to stdout")
    add("--plot", type=Path, metavar="FILE.svg|png", help="the report as a picture")
    add(
        "--card",
        type=Path,
        metavar="DIR",
        help="the bench card of the models that ship, and of any MODEL besides: bench_card.md, .json and .svg",
    )


def run(args: argparse.Namespace) -> int:
    """Time, and report as a table, JSON or a picture."""
    if args.card:
        from ..bench.card import write_card

        for file in write_card(args.card, args.models, args.clip):
            print(file)
        return 0
    if args.plot and args.plot.suffix not in (".svg", ".png"):
        raise UsageError(f"expected --plot FILE.svg or FILE.png, got {args.plot.name}")
    options = options_of(args)
    from ..bench.benchmark import bench
    from ..bench.markdown import markdown
    from ..bench.plot import plot

    report = bench(options)
    if args.plot:
        plot([report], args.plot)
    if args.json:
        write_json(args.json, report)
    if args.json != "-":
        print(markdown(report))
        print(
            "\nnext: numclip bench … --json a.json, change one thing, --json b.json, then: numclip compare a.json b.json"
        )
    return 0


def options_of(args: argparse.Namespace) -> BenchOptions:
    """What the flags ask for; raises UsageError for flags that cannot go together."""
    return BenchOptions(
        models=tuple(args.models),
        scenario=args.scenario,
        devices=args.device,
        batches=args.batch,
        threads=args.threads,
        skip_absent=args.skip_absent,
        seconds=args.seconds,
        restarts=args.restarts,
        pictures=args.pictures,
        clip=args.clip,
        detector=args.detector,
        frames=args.frames,
    )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"expected whole numbers above 0 with commas, got {text!r}")
    return numbers


def _devices(text: str) -> tuple[str, ...]:
    devices = tuple(text.split(","))
    if wrong := [device for device in devices if device not in DEVICES]:
        raise argparse.ArgumentTypeError(f"expected {', '.join(DEVICES)} with commas, got {wrong[0]!r}")
    return devices
