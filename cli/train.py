"""Train a NumCLIP model, or one of the methods that it is compared with, on labelled pictures.

The command writes into DIR: best.safetensors (the averaged weights of the epoch with the lowest mean absolute error on the
`val` splits), last.pt (what --resume needs), log.jsonl (one line per epoch) and, with --test, result.json. It keeps some faces of
the val splits in the cache folder, so that `numclip export` can check the exported file on them. "As released" below means: as in
the code that the NumCLIP authors published.
`torchrun --nproc-per-node N -m numclip.cli.main train ...` trains in N processes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from ..errors import UsageError
from .shared_flags import add_data
from .training_process import process_for_training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip train`."""
    from ..train.recipes import RECIPES
    from ..train.training_data import SMOKE_FACES

    parser.add_argument(
        "--recipe",
        metavar="NAME",
        choices=sorted(RECIPES),
        help="train with the settings and stages of this recipe: age-nano, age-small or age-open (fairface data only), which ship, "
        "or one that is not trained yet: age-base (default: one stage, with the flags below)",
    )
    parser.add_argument(
        "--task", metavar="NAME|FILE", default="age", help="task: the name of one in train/tasks/, or a .json file"
    )
    add_data(parser)
    parser.add_argument(
        "--model",
        metavar="NAME",
        default="nano",
        help="image tower: nano, slim, small, base, face-resnet, or any open_clip model name",
    )
    parser.add_argument(
        "--pretrained",
        nargs="+",
        default=[],
        metavar="TAG|FILE",
        help="initial weights: an open_clip tag, a file of CLIP weights, or start weights converted by `python -m numclip.research.start_weights`; "
        "with --recipe, one file for each tower or table of predictions that it names (default: random)",
    )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="CHECKPOINT",
        help="continue from the weights of this checkpoint, with a new schedule (default: start from --pretrained)",
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        nargs="+",
        default=[],
        metavar="CHECKPOINT|FILE.json",
        help="distil: train on the mean of each label and these checkpoints' values for the same crop, and on their "
        "word probabilities; a .json file holds another network's predictions and needs --teach-once (default: no teachers)",
    )
    parser.add_argument(
        "--teach-once",
        action="store_true",
        help="run the teachers once per face and once on its mirror image, instead of on every training crop",
    )
    parser.add_argument("--out", metavar="DIR", required=True, type=Path, help="folder to write into")
    parser.add_argument(
        "--epochs",
        metavar="N",
        type=int,
        help="passes over the training pictures (default: 20; as released: 200 for age, 100 for other tasks)",
    )
    parser.add_argument("--batch", metavar="N", type=int, help="crops per step, over all processes (default: 32)")
    parser.add_argument(
        "--lr", metavar="RATE", type=float, help="peak learning rate (default: 1e-3; as released: 1e-5)"
    )
    parser.add_argument(
        "--weight-decay", metavar="DECAY", type=float, help="weight decay (default: 0.05; as released: 0)"
    )
    parser.add_argument(
        "--small-side",
        type=int,
        metavar="PX",
        help="side of the crops in the first --small-epochs epochs, in px (default: the same as in the later epochs)",
    )
    parser.add_argument(
        "--small-epochs",
        metavar="N",
        type=int,
        default=0,
        help="number of first epochs to train on smaller, cheaper crops",
    )
    parser.add_argument("--threads", metavar="N", type=int, default=0, help="CPU threads; 0 takes all cores")
    parser.add_argument(
        "--seed",
        metavar="N",
        type=int,
        default=0,
        help="random seed of the initial weights, the order, the augmentation, and the choice of --shots, --shift and "
        "--num-faces; splits do not depend on it",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the training that DIR/last.pt holds, with the same result as without the interruption",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help=f"use only {SMOKE_FACES} faces per data set, to see whether everything runs",
    )
    _add_method_flags(parser)
    _add_protocol_flags(parser)
    group = parser.add_argument_group("computing")
    group.add_argument("--side", type=int, metavar="PX", help="side of the crops, in px (default: the tower's)")
    group.add_argument(
        "--coverage",
        metavar="FACTOR",
        type=float,
        default=1.0,
        help="width of the region that a crop shows, relative to the task's crop",
    )
    group.add_argument(
        "--amp",
        choices=["off", "bf16", "fp16"],
        help="mixed precision: bf16 (off on a CPU without bfloat16) or fp16 (default: off; as released: fp16 on a GPU)",
    )
    group.add_argument(
        "--checkpoint-gradients",
        action="store_true",
        help="recompute activations in the backward pass: less memory, about a third more time",
    )


def _add_method_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the method: losses, parameter groups and optimisation."""
    from ..train.augment import AUGMENTATIONS
    from ..train.groups import GROUPS
    from ..train.method import METHODS

    group = parser.add_argument_group("method")
    group.add_argument(
        "--method",
        choices=METHODS,
        default="numclip",
        help="method to train; all use the same data, towers and evaluation",
    )
    group.add_argument(
        "--as-released", action="store_true", help="use every setting of the code that the NumCLIP authors published"
    )
    group.add_argument(
        "--weighting",
        choices=["inside", "outside", "none"],
        default="outside",
        help="where the ranking losses apply their weights: inside the exponent, outside it, or not at all",
    )
    group.add_argument(
        "--distance",
        choices=["bins", "values"],
        default="bins",
        help="what these weights grow with: the distance in bins, or in units between bin centers",
    )
    group.add_argument(
        "--loss-weights",
        type=float,
        nargs=3,
        metavar=("I2T", "T2I", "L1"),
        help="weights of the image-to-text, text-to-image and L1 losses (default: 1 1 1; coop 1 0 0; ordinalclip 1 1 0)",
    )
    group.add_argument(
        "--adapter-ratio",
        metavar="SHARE",
        type=float,
        help="share of adapted features in the mix with plain features, 0 to 1 (default: 0.5; as released: 0.8; "
        "other methods: 0)",
    )
    group.add_argument(
        "--logit-scale", metavar="SCALE", type=float, help="initial value of exp(logit scale) (default: the tower's)"
    )
    group.add_argument(
        "--train-text",
        action="store_true",
        help="train the text tower too; a randomly initialised one is always trained (default: frozen)",
    )
    group.add_argument(
        "--lr-of",
        nargs="+",
        default=[],
        metavar="GROUP=RATE",
        help=f"learning rates of single parameter groups: {', '.join(GROUPS)}; 0 freezes a group (default: --lr)",
    )
    group.add_argument(
        "--lock",
        metavar="GROUP",
        nargs="+",
        default=[],
        choices=list(GROUPS),
        help="parameter groups to freeze, of those above (default: none)",
    )
    group.add_argument("--optimizer", choices=["adamw", "radam"], help="optimizer (default: adamw; as released: radam)")
    group.add_argument(
        "--schedule",
        choices=["one-cycle", "step"],
        help="learning-rate schedule; step divides the rate by ten at epoch 60 (default: one-cycle; as released: step)",
    )
    group.add_argument(
        "--clip",
        metavar="NORM",
        type=float,
        help="clip the gradient norm at this value; 0 turns clipping off (default: 5; as released: 0)",
    )
    group.add_argument(
        "--ema",
        metavar="DECAY",
        type=float,
        help="decay of the exponential moving average of the weights; 0 turns averaging off (default: 0.999; as released: "
        "0)",
    )
    group.add_argument(
        "--select", choices=["val", "test"], help="split that selects the best epoch (default: val; as released: test)"
    )
    group.add_argument(
        "--augment",
        choices=list(AUGMENTATIONS),
        help="strength of the augmentation (default: strong; as released: released)",
    )
    group.add_argument(
        "--normalisation",
        choices=["own", "imagenet"],
        help="mean and standard deviation of the pixels: the tower's own, or ImageNet's (default: own; as released: "
        "imagenet)",
    )


def _add_protocol_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose the pictures for training, validation and test."""
    from ..calibration.data.protocols import SPLIT_RULES, parse_fold, parse_shift
    from ..train.training_data import parse_repeat

    group = parser.add_argument_group("protocol")
    group.add_argument(
        "--split-by",
        choices=SPLIT_RULES,
        help="how to split the data: own takes the data set's splits or folds; subject keeps all pictures of a person "
        "together; random splits single pictures, as many papers do, so that people appear in several splits (default: "
        "own if no person appears in two splits, else subject)",
    )
    group.add_argument(
        "--fold",
        type=parse_fold,
        metavar="I/N",
        help="cross-validation: test on fold I (from 0) of N, train on the others (default: no folds)",
    )
    group.add_argument(
        "--shots", type=int, metavar="K", help="few-shot: use at most K training pictures per label (default: all)"
    )
    group.add_argument(
        "--shift",
        type=parse_shift,
        metavar="TOPK:SCALE",
        help="label shift: keep only the share SCALE of the pictures of the TOPK most frequent labels, such as 20:0.1 "
        "(default: keep all)",
    )
    group.add_argument(
        "--num-faces", type=int, metavar="N", help="use at most N training pictures, chosen at random (default: all)"
    )
    group.add_argument(
        "--balance",
        action="store_true",
        help="repeat smaller data sets within an epoch, to about the size of the largest",
    )
    group.add_argument(
        "--repeat",
        type=parse_repeat,
        nargs="+",
        default=[],
        metavar="FROM-TO:TIMES",
        help="repeat faces with these labels within an epoch, such as 13-19:2 60-120:2; a band counts by its midpoint "
        "(default: no repeats)",
    )
    group.add_argument(
        "--band-slack",
        type=float,
        default=0.0,
        metavar="X",
        help="widen bands by X on both sides while training, because ages that people guessed are often a few years off; "
        "validation uses the bands as they are",
    )
    group.add_argument("--test", action="store_true", help="measure the test split at the end, and write result.json")


def run(args: argparse.Namespace) -> int:
    """Train, and print the next command."""
    from ..train import TrainOptions, train, train_recipe
    from ..train.groups import parse_rates
    from ..train.options import BY_FLAG, as_released

    if not args.recipe and len(args.pretrained) > 1:
        raise UsageError(
            f"expected one --pretrained file without --recipe, got {len(args.pretrained)}; name one, or add --recipe"
        )
    options = TrainOptions(tuple(args.data), args.out, task=args.task)
    options = as_released(options) if args.as_released else options
    given = {BY_FLAG.get(name, name): value for name, value in vars(args).items() if value is not None}
    given = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items() if hasattr(options, n)}
    rates = dict.fromkeys(args.lock, 0.0) | parse_rates(args.lr_of)
    pretrained = args.pretrained[0] if args.pretrained and not args.recipe else None
    options = replace(options, **{**given, "rates": rates or None, "pretrained": pretrained})
    with process_for_training(args.threads):
        if args.recipe:
            result = train_recipe(args.recipe, options, [Path(path) for path in args.pretrained])
        else:
            result = train(options)
    if result.first_process:
        for name, measured in result.test.items():
            print(f"test of {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in vars(measured).items()))
        print(f"best: epoch {result.epoch}, {result.selected_on} MAE {result.mae:.2f} {result.unit}")
        print(f"next: numclip export {args.out / 'best.safetensors'} --out {args.task}.onnx")
    return 0
