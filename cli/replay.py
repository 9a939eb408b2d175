"""Play back a run that `numclip run --record` recorded: the same results, events and errors at the same times, without a camera.

Every replay of a recording writes the same lines as the recorded run. --show and --save show grey pictures unless the run was
recorded with --record-pixels. The intervals have the level of the recording.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..runtime.sinks.replaying import ReplayOptions, replay
from .output_flags import add_output_flags, output_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip replay`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="recording to play back")
    parser.add_argument("--fast", action="store_true", help="play as fast as possible (default: at the recorded speed)")
    add_output_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Play it to the end."""
    summary = replay(ReplayOptions(args.file, args.fast, output_options(args)))
    print(summary.sentence, file=sys.stderr)
    return 0
