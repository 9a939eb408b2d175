"""Download the YuNet face detector into the cache, and verify its SHA-256.

The file (232 kB, MIT licence) comes from OpenCV's model zoo. Other commands download only three things: what is at an
address that you give them (hf://, http://, s3://), the weights of an open_clip tag that you give them (--pretrained), and what pip
needs to build the wheel for `numclip deploy jetson`.
"""

from __future__ import annotations

import argparse

from ..runtime.faces.fetch import YUNET_URL, fetch_yunet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip fetch`."""
    parser.add_argument("what", choices=["yunet"], metavar="yunet", help="what to download: the YuNet face detector")
    parser.add_argument("--url", default=YUNET_URL, help="download from here; any mirror of the same file will do")


def run(args: argparse.Namespace) -> int:
    """Download, unless the cache has the right file, and print the next command."""
    print(f"YuNet is in the cache: {fetch_yunet(args.url)}")
    print("next: numclip run 0 --detector yunet --show")
    return 0
