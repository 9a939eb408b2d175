"""Show what a model file contains: task, accuracy, interval calibration, difference from PyTorch, size and licences."""

from __future__ import annotations

import argparse

from ..runtime.info import model_info
from ..runtime.places import write_json
from .model_screen import screen
from .shared_flags import add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip info`."""
    parser.add_argument("model", metavar="MODEL", help="model or face detector: a shipped one's name, or a file")
    add_json(parser, "everything")


def run(args: argparse.Namespace) -> int:
    """Print a summary for people, or everything as JSON."""
    info = model_info(args.model)
    if args.json != "-":
        print("\n".join(screen(info)))
        print(f"\nnext: numclip run 0 {'--detector' if info.is_finder else '--model'} {args.model} --show")
    if args.json:
        write_json(args.json, info.to_json())
    return 0
