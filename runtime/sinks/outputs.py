"""The outputs of `numclip run` and `numclip replay`: their flags, and the sinks that these name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ...errors import UsageError
from ..contract.spec import TaskSpec
from ..live.frames import FrameResult, Source, SourceInfo
from .drawing import Look
from .mqtt import MqttSink
from .prometheus import MetricsSink
from .recording import RecordSink
from .run_statistics import RunStatistics
from .sinks import CsvSink, JsonlSink, LineOf, Sink, TerminalSink, VideoSink


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """What both verbs can write."""
    parser.add_argument("--show", action="store_true", help="show a window; q stops")
    parser.add_argument("--save", type=Path, metavar="FILE.mp4", help="write the annotated video")
    parser.add_argument("--jsonl", metavar="FILE|-", help="write one JSON line per frame, to a file or to stdout")
    parser.add_argument("--csv", metavar="FILE|-", help="write a table with one row per face")
    parser.add_argument(
        "--mqtt", metavar="URL", help="publish the JSON lines: mqtt://[user:password@]host[:port]/topic"
    )
    parser.add_argument("--metrics", metavar="[HOST:]PORT", help="serve latency, rates and counts for Prometheus")
    parser.add_argument("--interval", type=float, default=0.9, metavar="LEVEL", help="level of the shown range")
    parser.add_argument("--blur", action="store_true", help="blur faces in window and video")
    parser.add_argument(
        "--aggregate", action="store_true", help="write only how many faces there are of each word: no boxes, no tracks"
    )


def check_outputs(args: argparse.Namespace, sources: Sequence[SourceInfo]) -> None:
    """UsageError where outputs contradict each other, or one is a file that is being read."""
    if not 0 < args.interval < 1:
        raise UsageError(f"expected --interval between 0 and 1, such as 0.9, got {args.interval:g}")
    record = getattr(args, "record", None)
    if args.aggregate and (args.show or args.save or record):
        raise UsageError("expected --aggregate without --show, --save and --record: those show where faces are")
    named = {f"--{n}": v for n in ("jsonl", "csv", "save", "record") if (v := getattr(args, n, None))}
    if list(named.values()).count("-") > 1:
        raise UsageError("expected at most one of --jsonl and --csv to be -, got both; name a file for one")
    paths: dict[Path, str] = {}
    for flag, where in named.items():
        path = Path(where)
        if str(where) == "-":
            continue
        if path.resolve() in paths:
            raise UsageError(f"expected two files for {paths[path.resolve()]} and {flag}, got {where} for both")
        paths[path.resolve()] = flag
        if path.exists() and any(path.samefile(file) for source in sources for file in source.files):
            raise UsageError(f"expected an output that is not the source, got {where} for both; name another")


def open_outputs(
    args: argparse.Namespace,
    sources: Sequence[SourceInfo],
    task: TaskSpec,
    level: float | None,
    statistics: RunStatistics,
    say: Callable[[str], None],
    counted: Sequence[Source] = (),
) -> Iterator[Sink]:
    """Every sink that was asked for, the window excepted; lines for a person where nothing else is written.

    counted: sources whose reconnects and losses are counted.
    """
    line_of: LineOf = FrameResult.to_counts if args.aggregate else lambda result: result.to_json(level)
    if args.jsonl:
        yield JsonlSink(args.jsonl, line_of)
    if args.csv:
        yield CsvSink(args.csv, task, level, args.aggregate)
    if args.save:
        yield VideoSink(args.save, sources, Look(level, args.blur))
    if args.mqtt:
        yield MqttSink(args.mqtt, line_of)
    if args.metrics:
        yield MetricsSink(args.metrics, statistics, counted)
    if getattr(args, "record", None):
        yield RecordSink(args.record, task, level, sources, args.record_pixels)
    if not (args.jsonl or args.csv or args.save or args.show or args.mqtt or args.aggregate):
        yield TerminalSink(say, level)
