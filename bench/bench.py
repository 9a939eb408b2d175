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
from typing import Any

from ..errors import UsageError
from ..runtime.contract.model_file import shipped_models
from ..runtime.places import write_json
from ..runtime.sessions.session import DEVICES
from .card import write_card
from .markdown import markdown
from .plot import plot
from .rows import SCENARIOS, measure

SECONDS, SUSTAINED_SECONDS = 5.0, 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip bench`."""
    add = parser.add_argument
    add(
        "models",
        nargs="*",
        metavar="MODEL",
        help="models by name or file, and rivals as in eager:nano or clip:ViT-B-16 (docs/bench.md); the first is the yardstick",
    )
    add("--scenario", choices=[*SCENARIOS, "pipeline"], default="single-stream", help="what is timed")
    add("--device", type=_devices, default=["auto"], metavar="A,B,…", help=f"each of {', '.join(DEVICES)}")
    add("--batch", type=_numbers, metavar="1,2,…", help="faces per call (1; multi-stream 8; offline 32)")
    add("--threads", type=_numbers, default=[1], metavar="1,2,…", help="CPU threads per call")
    add("--skip-absent", action="store_true", help="list what cannot run here, with the reason, and time the rest")
    add("--seconds", type=float, help=f"at least so long per contender ({SECONDS:g}; sustained {SUSTAINED_SECONDS:g})")
    add("--restarts", type=int, default=6, help="how often everything is opened anew; their spread goes into intervals")
    add("--faces", metavar="SOURCE", help="pictures or a clip whose faces are timed (default: two portraits)")
    add("--clip", metavar="FILE", help="a video with a face, for --scenario pipeline")
    add("--detector", choices=["auto", "yunet", "haar"], default="auto", help="for the pipeline, and to find --faces")
    add("--frames", type=int, default=150, help="frames of the clip to time")
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
        for file in write_card(args.card, args.models, args.clip, lambda argv: _report(_parsed(argv, args))):
            print(file)
        return 0
    if args.plot and args.plot.suffix not in (".svg", ".png"):
        raise UsageError(f"expected --plot FILE.svg or FILE.png, got {args.plot.name}")
    report = _report(args)
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


def _parsed(argv: list[str], joined: argparse.Namespace) -> argparse.Namespace:
    """Another command's flags, with what the command line joined to this one's."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    args = parser.parse_args(argv)
    args._open_rival = joined._open_rival
    return args


def _report(args: argparse.Namespace) -> dict[str, Any]:
    """Fill in what depends on the scenario, and measure; raises UsageError for flags that cannot go together."""
    if not args.models:
        raise UsageError(f"expected a MODEL to time, got none; there is {', '.join(shipped_models())}")
    if args.seconds is None:
        args.seconds = SUSTAINED_SECONDS if args.scenario == "sustained" else SECONDS
    if args.seconds <= 0 or args.frames < 1 or args.restarts < 1:
        raise UsageError("expected --seconds, --frames and --restarts above 0")
    if args.scenario == "pipeline" and not args.clip:
        raise UsageError("--scenario pipeline needs --clip FILE, a video with a face; `numclip demo` makes one")
    if args.scenario == "sustained":
        args.restarts = 1
    return measure(args)


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"expected whole numbers above 0 with commas, got {text!r}")
    return numbers


def _devices(text: str) -> list[str]:
    devices = text.split(",")
    if wrong := [device for device in devices if device not in DEVICES]:
        raise argparse.ArgumentTypeError(f"expected {', '.join(DEVICES)} with commas, got {wrong[0]!r}")
    return devices
