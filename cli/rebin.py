"""Put new words and bins into a trained checkpoint: the towers stay, the words are embedded anew.

--bins is a task file, or one with `bins` and `to` alone (and `context`, if that changes too). The new words' tokens are
those of the text tower's language pre-training, which --pretrained names as it did in training. A text tower that never
saw language knows only the words it was trained on: then new tokens are noise, and what can be kept is kept only by
fitting the small refinement again on --data. The command measures what it cost.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip rebin`."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a .safetensors that numclip train wrote")
    parser.add_argument("--bins", required=True, type=Path, metavar="FILE", help="a JSON with bins and to, or a task")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the .safetensors to write")
    parser.add_argument("--pretrained", help="where the text tower's tokens come from: the tag or file of the training")
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="DATA",
        help="labelled faces: fit the refinement on train, measure on val",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the new refinement and of its fit")


def run(args: argparse.Namespace) -> int:
    """Put the new words in, and say what they cost."""
    from ..train import RebinOptions, rebin

    options = RebinOptions(args.checkpoint, args.bins, args.out, args.pretrained, tuple(args.data), args.seed)
    result = rebin(options)
    old, new = result.num_bins
    for name, (before, after) in result.figures.items():
        print(
            f"{name} val: MAE {before.mae:.2f} -> {after.mae:.2f} {result.unit}, "
            f"words right {before.coarse:.1%} of {old} -> {after.coarse:.1%} of {new}"
        )
    if not result.figures:
        print("not measured, and the refinement starts anew: give --data to fit it and to see what this cost")
    print(f"next: numclip export {args.out} --out {args.out.stem}.onnx --data {args.data[0] if args.data else 'DATA'}")
    return 0
