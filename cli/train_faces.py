"""Train the face finder, faces-nano, and freeze it into one .onnx that finds faces by itself.

It learns from photographs with boxes, from portraits placed on backgrounds at all sizes, and from YuNet, which answers for
every cell of every training picture. Pictures are then spoilt as cameras spoil them. A training that was cut off goes on. The
file's metrics are measured beside YuNet on the photographs' test split.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from ..export.faces import LIKELY, SURE, FacesExportOptions, export_faces
from ..runtime.contract.model_file import FINDER
from ..train.faces.training import FacesTrainOptions, train_faces
from .training_process import process_for_training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip train-faces`."""
    add, default = parser.add_argument, FacesTrainOptions
    add("--scenes", type=Path, required=True, metavar="PATH", help="photographs: PATH.tar, PATH.csv and PATH_boxes.csv")
    add("--portraits", type=Path, nargs="+", required=True, metavar="PATH", help="one face each: PATH.tar and PATH.csv")
    add("--teacher", type=Path, required=True, metavar="FILE.onnx", help="YuNet's file: numclip fetch yunet")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for faces.pt and faces-nano.onnx")
    add("--minutes", type=float, default=default.minutes, help="end the schedule after this time at the latest")
    add("--steps", type=int, default=default.steps, help=f"training steps ({default.steps})")
    add(
        "--rate",
        type=float,
        default=default.rate,
        help=f"highest learning rate ({default.rate:g}); it falls to nothing",
    )
    add(
        "--start",
        type=Path,
        metavar="FILE.pt",
        help="a faces.pt to go on from, as in a second stage (default: random weights)",
    )
    add("--threads", type=int, default=1, help="CPU threads of the network; 0: all")
    add("--workers", type=int, default=default.workers, help="processes that make pictures")
    add("--seed", type=int, default=default.seed)
    add("--sure-at", type=float, default=SURE, metavar="SCORE", help=f"the network's score that the file calls {SURE}")
    add("--likely-at", type=float, default=LIKELY, metavar="SCORE", help=f"and the one that it calls {LIKELY}")
    add("--smoke", action="store_true", help="a few pictures and steps, to see that everything runs")


def run(args: argparse.Namespace) -> int:
    """Train, freeze, and say what to type next."""
    options = FacesTrainOptions(
        scenes=args.scenes,
        portraits=tuple(args.portraits),
        teacher=args.teacher,
        out=args.out,
        minutes=args.minutes if args.minutes > 0 else math.inf,
        steps=args.steps,
        rate=args.rate,
        start=args.start,
        workers=args.workers,
        seed=args.seed,
        smoke=args.smoke,
    )
    with process_for_training(args.threads):
        checkpoint = train_faces(options)
    out = args.out / "faces-nano.onnx"
    measured = None if args.smoke else args.scenes
    export_faces(
        FacesExportOptions(
            checkpoint, out, FINDER, args.sure_at, args.likely_at, scenes=measured, reference=args.teacher
        )
    )
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")
    print(f"next: numclip run 0 --detector {out} --show")
    return 0
