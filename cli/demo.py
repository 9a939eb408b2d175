"""Make a short clip from two portraits and estimate the ages in it; works offline.

The portraits ship with matplotlib (Rear Admiral Grace Hopper) and scikit-image (astronaut Eileen Collins). They move and
change size over a plain background. The command writes clip.mp4, and its results as demo.mp4 (with boxes and
ages), demo.jsonl and demo.png.
With --web a page opens instead, which does the same in your browser with your own camera.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..demo.show import DemoOptions, demo
from ..web.bundle import SiteOptions
from ..web.serve import show_temporary
from .shared_flags import add_model_flags
from .web import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip demo`."""
    add_model_flags(parser)
    parser.add_argument("--out", type=Path, default=".", metavar="DIR", help="folder to write the files into")
    parser.add_argument(
        "--web", action="store_true", help="show the browser page at localhost instead; the other flags have no effect"
    )


def run(args: argparse.Namespace) -> int:
    """Make the clip, run on it and print the results; or show the page."""
    if args.web:
        return show_temporary(SiteOptions.model, SiteOptions.finder, 0, say, open_browser=True)
    shown = demo(DemoOptions(args.model, args.device, args.detector, args.out))
    print(shown.table)
    print(f"\nwrote {shown.clip}, {shown.video}, {shown.lines}, {shown.sheet}")
    print("next: numclip run 0 --show")
    return 0
