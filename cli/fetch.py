"""Download the YuNet face detector into the cache, explicitly and checked by its sha256.

The file (232 kB, MIT licence) comes from OpenCV's model zoo. Nothing else in numclip downloads anything.
"""

from __future__ import annotations

import argparse

from ..runtime.faces.fetch import YUNET_URL, fetch_yunet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip fetch`."""
    parser.add_argument("what", choices=["yunet"], metavar="yunet", help="what to download: the YuNet face detector")
    parser.add_argument("--url", default=YUNET_URL, help="another place that has the same file (a mirror)")


def run(args: argparse.Namespace) -> int:
    """Fetch unless the cache already holds the right file; the last line is the next command."""
    print(f"YuNet is in the cache: {fetch_yunet(args.url)}")
    print("next: numclip run 0 --detector yunet --show")
    return 0
