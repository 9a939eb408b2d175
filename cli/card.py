"""Write a model's card from measurements: what it is, on what it was measured, for whom it is wrong, what it must not do.

Every figure is measured on the `test` splits by this command; nothing is typed in.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..calibration import CardOptions, write_card
from .shared_flags import add_data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip card`."""
    parser.add_argument("model", metavar="MODEL", help="a model's name, .onnx or .engine")
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.md", help="the page to write")


def run(args: argparse.Namespace) -> int:
    """Measure and write."""
    write_card(CardOptions(args.model, args.data, args.out))
    print(f"{args.out}: the card of {args.model}")
    print(f"next: numclip info {args.model}")
    return 0
