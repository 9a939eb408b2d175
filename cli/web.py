"""Write the static site that estimates ages in a visitor's browser, or show it at localhost.

The site contains the page, ONNX Runtime for WebAssembly, one model and the face detector. Any static host can serve it. The model
runs on the visitor's device, and after the first visit also offline. docs/web.md lists the headers that a host should send.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import UsageError
from ..runtime.places import write_json
from ..web.bundle import Site, SiteOptions, write_site
from ..web.serve import PORT, show, show_temporary
from .shared_flags import add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip web`."""
    add = parser.add_argument
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder to write the site into: new, empty, or with an earlier site (default with --serve: a "
        "temporary folder; required without --serve)",
    )
    add("--serve", action="store_true", help="serve the site at localhost until Ctrl-C")
    add("--model", default=SiteOptions.model, help="model: a shipped model's name or an .onnx file, fp32 or int8")
    add(
        "--detector",
        metavar="NAME|FILE",
        default=SiteOptions.finder,
        help="face detector: a shipped one's name or an .onnx file",
    )
    add("--port", type=int, default=PORT, help="with --serve: TCP port; 0 picks a free port")
    add_json(parser, "the list of files and their sizes")


def run(args: argparse.Namespace) -> int:
    """Write the site, and serve it if requested."""
    if args.out is None and not args.serve:
        raise UsageError("expected --out DIR to write the site, --serve to show it, or both; got neither")
    if args.out is None:
        return show_temporary(args.model, args.detector, args.port, say)
    site = write_site(SiteOptions(args.out, args.model, args.detector))
    if args.json:
        write_json(args.json, site.to_json())
    if args.json != "-":
        _tell(site)
    if args.serve:
        return show(site.folder, args.port, say)
    if args.json != "-":
        print(f"next: numclip web --out {args.out} --serve, or copy the folder to any static host (docs/web.md)")
    return 0


def _tell(site: Site) -> None:
    rows = sorted(site.sizes.items(), key=lambda item: -item[1][0])
    for name, (size, gzipped) in rows[:4]:
        print(f"{name:<32} {size / 1e6:6.2f} MB   {gzipped / 1e6:6.2f} MB gzipped")
    print(
        f"{site.folder}: {len(rows)} files, {site.size_bytes / 1e6:.1f} MB, {site.gzipped_bytes / 1e6:.1f} MB gzipped"
    )


def say(text: str) -> None:
    """Print a message to stderr."""
    print(text, file=sys.stderr, flush=True)
