"""Give a trained checkpoint new words and bins: the towers stay, the words are embedded again.

--bins is a task file, or a JSON file with only `bins` (each with `from` and `word`) and `to`, the upper end of the last bin
(and `context`, the start of the sentence, if that changes too). The text tower embeds the new words with the token embedding of
its language pre-training. Give those weights with --pretrained, as in training. A text tower without language pre-training knows
only the words it was trained on: new words get random embeddings, and the refinement has to be fitted again on --data. With
--data, the command also measures how much accuracy the change costs.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip rebin`."""
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", type=Path, help="checkpoint: a .safetensors file that numclip train wrote"
    )
    parser.add_argument(
        "--bins", required=True, type=Path, metavar="FILE", help="task file, or a JSON file with bins and to"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="checkpoint (.safetensors) to write")
    parser.add_argument(
        "--pretrained",
        metavar="TAG|FILE",
        help="open_clip tag or file of the text tower's language pre-training, as given to numclip train (default: "
        "none)",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="DATA",
        help="labelled faces, in the forms that numclip train --help lists: fit the refinement on split train, measure on split val (default: no fit, nothing measured)",
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="random seed of the new refinement and its fit"
    )


def run(args: argparse.Namespace) -> int:
    """Put in the new words, and print what they cost."""
    from ..train import RebinOptions, rebin

    options = RebinOptions(args.checkpoint, args.bins, args.out, args.pretrained, tuple(args.data), args.seed)
    result = rebin(options)
    old, new = result.num_bins
    for name, (before, after) in result.figures.items():
        print(
            f"{name} val: MAE {before.mae:.2f} -> {after.mae:.2f} {result.unit}, correct words {before.coarse:.1%} "
            f"of {old} -> {after.coarse:.1%} of {new}"
        )
    if not result.figures:
        print("the refinement is untrained and nothing was measured; give --data to fit it and to measure the accuracy")
    print(f"next: numclip export {args.out} --out {args.out.stem}.onnx --data {args.data[0] if args.data else 'DATA'}")
    return 0
