"""Write a one-page report on the results of `numclip bulk`.

It has the number of faces by age, by folder and by month, contact sheets of faces, and the errors by kind.

    numclip bulk photos/ --out ages
    numclip bulk report ages                            # writes ages/report.html

`numclip bulk-report` is the same command. The page is one self-contained HTML file. Faces are blurred beyond recognition unless
--show-faces is given.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip bulk-report`."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="the --out folder of a finished `numclip bulk`")
    parser.add_argument("--show-faces", action="store_true", help="show faces unblurred (default: blurred)")


def run(args: argparse.Namespace) -> int:
    """Write the page, and print its path."""
    from ..bulk.report import write_report

    print(f"wrote {write_report(args.folder, show_faces=args.show_faces)}")
    return 0
