"""Read a whole collection of pictures and videos into Parquet tables.

    numclip bulk photos/ scans.tar --out ages
    numclip bulk clip.mp4 --video 2.0 --out ages        # one look every two seconds
    numclip bulk report ages                            # ages/report.html

A run that was stopped or killed is continued by the same command: finished work is kept, nothing is read twice. Inputs that
cannot be read are listed in errors.parquet, each with a sentence. docs/bulk.md describes the tables.
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
        help="a folder, file, glob, .tar, .zip, http address, or fsspec address (s3://…)",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="the folder of the result")
    add("--from-file", type=Path, metavar="FILE", help="read further inputs from this file, one per line")
    add_model_flags(parser)
    add(
        "--interval",
        type=float,
        default=0.9,
        metavar="LEVEL",
        help="probability with which low to high holds the true value",
    )
    add("--min-face", type=int, default=24, metavar="PX", help="longer side of the smallest face that gets a value")
    add(
        "--max-faces",
        type=int,
        metavar="N",
        help="at most so many faces per picture or frame, the largest (default: 32 in video, all in a picture)",
    )
    add(
        "--video",
        default="track",
        metavar="ROWS",
        help="rows of a video: track (one per person), frame, or seconds between frames",
    )
    add("--workers", type=int, metavar="N", help="reading processes (default: one per processor)")
    add(
        "--unit-size",
        type=int,
        default=200,
        metavar="N",
        help="pictures that are written at once; a kill loses at most so many per worker",
    )
    add("--dedupe", action="store_true", help="read files of the same bytes once and repeat their rows")
    add("--shard", default="1/1", metavar="I/N", help="read the I-th of N parts, for schedulers of your own")
    add("--engine", choices=["local", "ray"], default="local", help="processes on this machine, or Ray Data")
    add("--address", metavar="ADDRESS", help="address of a running Ray cluster (default: Ray starts on this machine)")
    add("--format", nargs="+", choices=["csv", "jsonl"], default=[], help="further copies of the faces table")
    add("--update", action="store_true", help="continue although inputs changed: changed units are read again")
    add_json(parser, "the summary")


def run(args: argparse.Namespace) -> int:
    """Read the collection, and say what is in it."""
    if not args.inputs and args.from_file is None:
        raise UsageError("expected at least one INPUT, or --from-file FILE")
    from ..bulk import BulkOptions, bulk

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
    rate = summary.inputs / summary.seconds
    print(
        f"{summary.inputs} inputs, {summary.faces} faces, {summary.without_faces} without a face, {summary.errors} errors, "
        f"in {summary.seconds:.1f} s ({rate:.1f} inputs/s, {summary.workers} workers)"
    )
    print("worker seconds: " + ", ".join(f"{name} {value:.1f}" for name, value in summary.stage_seconds.items()))
    print(f"next: numclip bulk report {args.out}")
    if args.json:
        write_json(args.json, summary.to_json())
    return 0


def _shard(text: str) -> tuple[int, int]:
    part, slash, parts = text.partition("/")
    if not slash or not part.isdigit() or not parts.isdigit():
        raise UsageError(f"expected --shard I/N such as 3/8, got {text!r}")
    return int(part), int(parts)
