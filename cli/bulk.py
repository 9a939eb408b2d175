"""Estimate ages in a whole collection of pictures and videos, and write Parquet tables.

    numclip bulk photos/ scans.tar --out ages
    numclip bulk clip.mp4 --video 2.0 --out ages        # one frame every two seconds
    numclip bulk report ages                            # writes ages/report.html

To continue a run that was stopped or killed, type the same command again. Finished units of work are kept; only the
units that were in progress are read again. Inputs that cannot be read are listed in errors.parquet, each with its reason. docs/bulk.md describes the tables.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UsageError
from ..runtime.places import write_json
from .shared_flags import add_json, add_model_flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip bulk`."""
    add = parser.add_argument
    add(
        "inputs",
        metavar="INPUT",
        nargs="*",
        help="folder, file, glob, .tar, .zip, HTTP URL, or fsspec URL (s3://…)",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write the tables into")
    add("--from-file", type=Path, metavar="FILE", help="read more inputs from this text file, one per line")
    add_model_flags(parser)
    add(
        "--interval",
        type=float,
        default=0.9,
        metavar="LEVEL",
        help="probability with which the range low to high contains the true value",
    )
    add(
        "--min-face",
        type=int,
        default=24,
        metavar="PX",
        help="longer side of the smallest face that gets a value, in px",
    )
    add(
        "--max-faces",
        type=int,
        metavar="N",
        help="read at most N faces per picture or frame, the largest first (default: 32 in video, no limit in pictures)",
    )
    add(
        "--video",
        default="track",
        metavar="ROWS",
        help="rows to write for a video: track (one per person followed), frame (every frame), or a number (the seconds "
        "between the frames that are read)",
    )
    add("--workers", type=int, metavar="N", help="number of worker processes (default: one per CPU core)")
    add(
        "--unit-size",
        type=int,
        default=200,
        metavar="N",
        help="pictures per unit of work; each worker of a killed run repeats at most one unit",
    )
    add("--dedupe", action="store_true", help="read identical files only once, and repeat their rows for every copy")
    add(
        "--shard",
        default="1/1",
        metavar="I/N",
        help="read only part I of N, to split a collection over several machines",
    )
    add(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="where workers run: local is this machine, ray is Ray Data",
    )
    add(
        "--address",
        metavar="ADDRESS",
        help="address of a running Ray cluster, with --engine ray (default: Ray starts on this machine)",
    )
    add(
        "--format",
        nargs="+",
        choices=["csv", "jsonl"],
        default=[],
        help="also write the faces table in these formats (default: Parquet only)",
    )
    add(
        "--update",
        action="store_true",
        help="continue although inputs have changed since the last run; changed units are read again (default: stop "
        "with an error)",
    )
    add_json(parser, "the summary")


def run(args: argparse.Namespace) -> int:
    """Read the collection, and print a summary."""
    if not args.inputs and args.from_file is None:
        raise UsageError("expected at least one INPUT or --from-file FILE, got neither; name a folder or file")
    from ..bulk import BulkOptions, bulk
    from ..bulk.store import missing_shards

    summary = bulk(
        BulkOptions(
            inputs=tuple(args.inputs),
            out=args.out,
            from_file=args.from_file,
            model=args.model,
            detector=args.detector,
            device=args.device,
            level=args.interval,
            min_face_px=args.min_face,
            max_faces=args.max_faces,
            video=args.video,
            workers=args.workers,
            unit_size=args.unit_size,
            dedupe=args.dedupe,
            shard=_shard(args.shard),
            engine=args.engine,
            address=args.address,
            formats=("parquet", *args.format),
            update=args.update,
        )
    )
    if args.json == "-":
        write_json(args.json, summary.to_json())
        return 0
    # Of a continued run it is not known how many inputs were read now.
    rate = "" if summary.units_resumed else f"{summary.inputs / summary.seconds:.1f} inputs/s, "
    print(
        f"{summary.inputs} inputs, {summary.faces} faces, {summary.without_faces} without a face, {summary.errors} errors, "
        f"in {summary.seconds:.1f} s ({rate}{summary.workers} workers)"
    )
    print("worker seconds: " + ", ".join(f"{name} {value:.1f}" for name, value in summary.stage_seconds.items()))
    missing = missing_shards(args.out, _shard(args.shard)[1])
    others = f"the same command with --shard {', '.join(missing)}; then " if missing else ""
    print(f"next: {others}numclip bulk report {args.out}")
    if args.json:
        write_json(args.json, summary.to_json())
    return 0


def _shard(text: str) -> tuple[int, int]:
    part, slash, parts = text.partition("/")
    if not slash or not part.isdecimal() or not parts.isdecimal():
        raise UsageError(f"expected --shard I/N such as 3/8, got {text!r}")
    return int(part), int(parts)
