"""Compare two benchmark reports as ratios with 95 % intervals. Runs that differ in more than the model are an error.

The runs took place at different times, so the intervals come from the spread between the restarts of each run. They do not
cover differences between two days. For a more certain comparison, time both models in one `numclip bench`.
"""

from __future__ import annotations

import argparse

from ..bench.comparison import compare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip compare`."""
    parser.add_argument(
        "before", metavar="A.json", help="report written by numclip bench --json; the ratios are relative to it"
    )
    parser.add_argument("after", metavar="B.json", help="second report, from the same machine and scenario")


def run(args: argparse.Namespace) -> int:
    """Print B's times over A's, row by row."""
    found = compare(args.before, args.after)
    print(found.markdown())
    print(
        f"\nSeparate runs: the 95 % intervals come from the spread between the restarts of each run ({found.before['restarts']} "
        f"and {found.after['restarts']}); for a more certain comparison, time both models in one numclip bench."
    )
    return 0
