"""Show what a model file says about itself: what it reads, how wrong it is, its interval, parity, size and licences."""

from __future__ import annotations

import argparse

from ..runtime.info import model_info
from ..runtime.places import write_json
from .model_screen import screen
from .shared_flags import add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip info`."""
    parser.add_argument("model", metavar="MODEL", help="a model's or face finder's name or file")
    add_json(parser, "all that it says")


def run(args: argparse.Namespace) -> int:
    """Print one screen for a person, or everything as JSON for a program."""
    info = model_info(args.model)
    if args.json != "-":
        print("\n".join(screen(info)))
        print(f"\nnext: numclip run 0 {'--detector' if info.is_finder else '--model'} {args.model} --show")
    if args.json:
        write_json(args.json, info.to_json())
    return 0
