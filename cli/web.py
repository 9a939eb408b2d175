"""Write the static site that reads ages in a visitor's browser, or show it at localhost.

The site holds the page, ONNX Runtime's WebAssembly, one model and the face finder. It runs on any static host, on the
visitor's own device, and offline after the first visit; docs/web.md has the headers that a host should send.
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
    add("--out", type=Path, metavar="DIR", help="write the site here: a new or empty folder, or one that holds a site")
    add("--serve", action="store_true", help="show the site at localhost until Ctrl-C; without --out it is not kept")
    add("--model", default=SiteOptions.model, help="model name or .onnx file, fp32 or int8")
    add("--finder", default=SiteOptions.finder, help="face finder, name or .onnx file")
    add("--port", type=int, default=PORT, help="of --serve; 0 takes a free one")
    add_json(parser, "the files and their sizes")


def run(args: argparse.Namespace) -> int:
    """Write, and serve if that was asked for."""
    if args.out is None and not args.serve:
        raise UsageError("expected --out DIR to write the site, or --serve to show it; give one of them, or both")
    if args.out is None:
        return show_temporary(args.model, args.finder, args.port, say)
    site = write_site(SiteOptions(args.out, args.model, args.finder))
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
    """Tell a person, beside what a program reads."""
    print(text, file=sys.stderr, flush=True)
