"""Play a recording of `numclip run --record` back: the same results, events and faults at the same times, without a camera.

Two replays of one recording write the same lines, and the lines that the recorded run wrote.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from ...errors import UsageError
from ..live.frames import SourceEvent
from .drawing import Look
from .outputs import add_output_flags, check_outputs, open_outputs
from .recording import Recording
from .run_statistics import RunStatistics
from .sinks import Sink, Stop, WindowSink


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip replay`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a recording")
    parser.add_argument("--fast", action="store_true", help="do not wait: as fast as it goes")
    add_output_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Play it to the end."""
    recording = Recording(args.file)
    check_outputs(args, [recording.info])
    if recording.level is not None and args.interval != recording.level:
        raise UsageError(f"expected --interval {recording.level:g}, the level that was recorded, got {args.interval:g}")
    statistics = RunStatistics()
    with ExitStack() as stack:
        sinks: list[Sink] = [statistics]
        outputs = open_outputs(args, recording.infos, recording.task, recording.level, statistics, print)
        for sink in outputs:
            stack.callback(sink.close)
            sinks.append(sink)
        if args.show:
            sinks.append(WindowSink(Look(recording.level, args.blur), recording.infos))
            stack.callback(sinks[-1].close)
        with suppress(Stop):
            _play(recording, sinks, wait=not args.fast)
    print(statistics.sentence(recording.task.unit, []), file=sys.stderr)
    return 0


def _play(recording: Recording, sinks: list[Sink], wait: bool) -> None:
    started_s = time.monotonic()
    for at_s, item in recording.items():
        if wait:
            time.sleep(max(0.0, started_s + at_s - time.monotonic()))
        for sink in sinks:
            sink.tell(item) if isinstance(item, SourceEvent) else sink.write(item)
