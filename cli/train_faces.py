"""Train the face detector faces-nano, and export it to one .onnx file.

The network learns from photographs with labelled boxes, from portraits pasted onto backgrounds at all sizes, and by
distillation from YuNet, whose score for every position of its output grid is computed for every training picture. Training pictures
get the defects of camera pictures, such as blur and noise. To continue an interrupted training, type the same command again. The
file's metrics, and YuNet's, are measured on the test split of the photographs.
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
    add(
        "--scenes",
        type=Path,
        required=True,
        metavar="PATH",
        help="photographs with boxes, PATH without an ending: PATH.tar, PATH.csv and PATH_boxes.csv are read",
    )
    add(
        "--portraits",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="pictures of one face each, PATH without an ending: PATH.tar and PATH.csv are read",
    )
    add(
        "--teacher",
        type=Path,
        required=True,
        metavar="FILE.onnx",
        help="YuNet's model file, as numclip fetch yunet downloads it",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write faces.pt and faces-nano.onnx into")
    add(
        "--minutes",
        metavar="MIN",
        type=float,
        default=default.minutes,
        help="end the schedule after this time, in minutes, if --steps takes longer; inf is no limit",
    )
    add("--steps", metavar="N", type=int, default=default.steps, help="number of training steps")
    add(
        "--rate",
        metavar="RATE",
        type=float,
        default=default.rate,
        help="peak learning rate; it decays to zero",
    )
    add(
        "--start",
        type=Path,
        metavar="FILE.pt",
        help="continue from the weights of this faces.pt, as a second stage (default: random weights)",
    )
    add("--threads", metavar="N", type=int, default=1, help="CPU threads of the network; 0 takes all cores")
    add("--workers", metavar="N", type=int, default=default.workers, help="processes that prepare training pictures")
    add("--seed", metavar="N", type=int, default=default.seed, help="random seed")
    add(
        "--sure-at",
        type=float,
        default=SURE,
        metavar="SCORE",
        help=f"raw score of the network that becomes {SURE} in the file; from {SURE} on the tracker starts a track",
    )
    add(
        "--likely-at",
        type=float,
        default=LIKELY,
        metavar="SCORE",
        help=f"raw score of the network that becomes {LIKELY} in the file; from {LIKELY} on the tracker keeps a track",
    )
    add("--smoke", action="store_true", help="use few pictures and steps, to see whether everything runs")


def run(args: argparse.Namespace) -> int:
    """Train, export, and print the next command."""
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
