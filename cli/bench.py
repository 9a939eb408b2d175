"""Measure latency and throughput of models on this machine, as percentiles with confidence intervals and as ratios.

A contender is one model on one device, with one batch size and one thread count. Contenders take turns in one process (A B B A,
in a new order each round), after a warm-up that lasts until timings are stable. On a shared machine, compare the ratios within
one run: absolute times vary too much. The first three scenarios follow MLPerf:

    single-stream  one face per call; result: 90th percentile of latency
    multi-stream   eight faces per call; result: 99th percentile of latency
    offline        32 faces per call; result: faces per second
    sustained      ten minutes without a pause, to show drift
    pipeline       the time of each stage from a clip's frame to its result
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..bench.options import FRAMES, RESTARTS, SCENARIOS, SECONDS, SUSTAINED_SECONDS, BenchOptions
from ..errors import UsageError
from ..runtime.contract.model_file import FINDER
from ..runtime.places import check_output, write_json
from ..runtime.sessions.session import DEVICES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip bench`."""
    add = parser.add_argument
    add(
        "models",
        nargs="*",
        metavar="MODEL",
        help="models to time, at least one unless --card is given: by name or file, or other implementations such as eager:nano or "
        "clip:ViT-B-16 (docs/bench.md); "
        "ratios are relative to the first",
    )
    add("--scenario", choices=SCENARIOS, default=SCENARIOS[0], help="scenario to time, as described above")
    add(
        "--device",
        type=_devices,
        default="auto",
        metavar="A,B,…",
        help=f"devices to time each model on, separated by commas: {', '.join(DEVICES)}",
    )
    add(
        "--batch",
        type=_numbers,
        metavar="1,2,…",
        help="faces per call, separated by commas (default: 1; multi-stream 8; offline 32)",
    )
    add("--threads", type=_numbers, default="1", metavar="1,2,…", help="CPU threads per call, separated by commas")
    add(
        "--skip-absent",
        action="store_true",
        help="skip what cannot run here, list it with the reason, and time the rest (default: stop with an error)",
    )
    add(
        "--seconds",
        metavar="S",
        type=float,
        help=f"minimum time per contender, in seconds (default: {SECONDS:g}; sustained {SUSTAINED_SECONDS:g})",
    )
    add(
        "--restarts",
        metavar="N",
        type=int,
        default=RESTARTS,
        help=f"how often each model is closed and opened again (default: {RESTARTS}; sustained always 1)",
    )
    add(
        "--pictures",
        metavar="SOURCE",
        help="take the timed faces from these pictures or this clip (default: two portraits)",
    )
    add("--clip", metavar="FILE", help="video with a face, required for --scenario pipeline")
    add(
        "--detector",
        metavar="NAME|FILE",
        default=FINDER,
        help="face detector for --scenario pipeline and --pictures: a name or a file",
    )
    add("--frames", metavar="N", type=int, default=FRAMES, help="number of frames of --clip to time")
    add(
        "--json",
        metavar="FILE|-",
        help="write the report as one JSON object (docs/bench.schema.json) to FILE, or to stdout with -",
    )
    add("--plot", type=Path, metavar="FILE.svg|png", help="write a plot of the report")
    add(
        "--card",
        type=Path,
        metavar="DIR",
        help="measure the shipped models, one per network, and any MODEL named, and write bench_card.md, .json, .svg and "
        "bench_card_tables.md into DIR",
    )


def run(args: argparse.Namespace) -> int:
    """Run the benchmark, and write a table, JSON or a plot."""
    if args.card:
        if args.json or args.plot:
            raise UsageError(
                "--card DIR writes bench_card.json and bench_card.svg into DIR; leave out --json and --plot"
            )
        from ..bench.card import write_card

        for file in write_card(args.card, args.models, args.clip):
            print(file)
        return 0
    if args.plot and args.plot.suffix not in (".svg", ".png"):
        raise UsageError(f"expected --plot FILE.svg or FILE.png, got {args.plot.name}")
    check_output(args.plot)
    options = options_of(args)
    from ..bench.benchmark import bench
    from ..bench.markdown import markdown
    from ..bench.plot import plot

    report = bench(options)
    if args.json != "-":
        print(markdown(report))
        print(
            "\nnext: numclip bench … --json a.json, change one thing, numclip bench … --json b.json, then: numclip "
            "compare a.json b.json"
        )
    if args.json:
        write_json(args.json, report)
    if args.plot:
        plot([report], args.plot)
    return 0


def options_of(args: argparse.Namespace) -> BenchOptions:
    """The options record for the flags; raises UsageError for flags that contradict each other."""
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
        raise argparse.ArgumentTypeError(f"expected whole numbers above 0, separated by commas, got {text!r}")
    return numbers


def _devices(text: str) -> tuple[str, ...]:
    devices = tuple(text.split(","))
    if wrong := [device for device in devices if device not in DEVICES]:
        raise argparse.ArgumentTypeError(
            f"expected devices among {', '.join(DEVICES)}, separated by commas, got {wrong[0]!r}"
        )
    return devices
