"""Make a short clip from two real portraits that ship with well-known packages, and run the main job on it.

Rear Admiral Grace Hopper (matplotlib's sample data) and astronaut Eileen Collins (scikit-image's) move and change size
over a plain background. `numclip run` then leaves demo.mp4, demo.jsonl and demo.png. No network, no YuNet needed.
With --web a page opens instead, which does the same in a browser with your own camera.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..demo.show import DemoOptions, demo
from ..runtime.contract.model_file import FINDER
from ..runtime.faces.opening import HELP
from ..web.bundle import SiteOptions
from ..web.serve import show_temporary
from .web import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip demo`."""
    parser.add_argument("--model", default="age-nano", help="model name or file")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "tensorrt"], help="where it runs")
    parser.add_argument("--detector", default=FINDER, metavar="NAME|FILE", help=HELP)
    parser.add_argument(
        "--out", type=Path, default=".", metavar="DIR", help="folder for demo.mp4, demo.jsonl and demo.png"
    )
    parser.add_argument("--web", action="store_true", help="open the page for the browser at localhost instead")


def run(args: argparse.Namespace) -> int:
    """Make the clip, run on it, and show what came out; or open the page."""
    if args.web:
        return show_temporary(SiteOptions.model, SiteOptions.finder, 0, say, open_browser=True)
    shown = demo(DemoOptions(args.model, args.device, args.detector, args.out))
    print(shown.table)
    print(f"\nwrote {shown.video}, {shown.lines}, {shown.sheet}")
    print("next: numclip run 0 --show")
    return 0
