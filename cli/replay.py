"""Play a recording of `numclip run --record` back: the same results, events and faults at the same times, without a camera.

Two replays of one recording write the same lines, and the lines that the recorded run wrote.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..runtime.sinks.replaying import ReplayOptions, replay
from .output_flags import add_output_flags, output_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip replay`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a recording")
    parser.add_argument("--fast", action="store_true", help="do not wait: as fast as it goes")
    add_output_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Play it to the end."""
    summary = replay(ReplayOptions(args.file, args.fast, output_options(args)))
    print(summary.sentence, file=sys.stderr)
    return 0
