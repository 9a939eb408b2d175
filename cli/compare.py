"""Two benchmark reports side by side, as ratios with intervals; unlike runs are refused, with what differs.

The runs were at different times, so their rounds do not pair: intervals come from the spread between the restarts of
each run. What differs between two days is not in them; to be surer, give both models to one `numclip bench`.
"""

from __future__ import annotations

import argparse

from ..bench.comparison import compare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip compare`."""
    parser.add_argument("before", metavar="A.json", help="a report of numclip bench --json")
    parser.add_argument("after", metavar="B.json", help="another, from the same machine and scenario")


def run(args: argparse.Namespace) -> int:
    """Print B's times over A's, row by row."""
    found = compare(args.before, args.after)
    print(found.markdown())
    print(
        f"\nSeparate runs: the intervals (95 %) are from the spread between the restarts of each, "
        f"{found.before['restarts']} and {found.after['restarts']}; to be surer, give both models to one numclip bench."
    )
    return 0
