"""Write one page about a collection that `numclip bulk` has read: ages, folders, months, contact sheets, errors by kind.

    numclip bulk photos/ --out ages
    numclip bulk report ages                            # ages/report.html

The page is one file without links to others. Faces are blurred beyond recognition unless --show-faces is given.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip bulk-report`."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="the folder of a finished `numclip bulk`")
    parser.add_argument("--show-faces", action="store_true", help="do not blur the faces")


def run(args: argparse.Namespace) -> int:
    """Write the page, and say where it is."""
    from ..bulk.report import write_report

    print(f"wrote {write_report(args.folder, show_faces=args.show_faces)}")
    return 0
