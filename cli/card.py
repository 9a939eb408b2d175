"""Measure a model and write its model card: what it does, its accuracy by data set and group, its limits, and its licences.

Every figure is measured on the `test` split of each data set, or on all its faces if it has no splits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..calibration import CardOptions, write_card
from .shared_flags import add_data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip card`."""
    parser.add_argument("model", metavar="MODEL", help="model: a shipped model's name, an .onnx or an .engine file")
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.md", help="Markdown file to write")


def run(args: argparse.Namespace) -> int:
    """Measure and write."""
    write_card(CardOptions(args.model, args.data, args.out))
    print(f"{args.out}: model card of {args.model}")
    print(f"next: numclip info {args.model}")
    return 0
