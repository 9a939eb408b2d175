"""Train a NumCLIP, or one of the methods it is measured against, on labelled pictures.

OUT gets best.safetensors (averaged weights of the epoch with the lowest mean error on the `val` splits), last.pt (all that
--resume needs to continue exactly), log.jsonl (one line per epoch) and, with --test, result.json. Some faces of these splits
are kept in the cache folder: an export of the checkpoint is proven on them.
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

    parser.add_argument("--recipe", choices=sorted(RECIPES), help="train as a shipped model was trained, in its stages")
    parser.add_argument("--task", default="age", help="a task in train/tasks/ or a .json file")
    add_data(parser)
    parser.add_argument("--model", default="nano", help="nano, small, base, face-resnet, or any open_clip model name")
    parser.add_argument(
        "--pretrained",
        nargs="+",
        default=[],
        metavar="TAG|FILE",
        help="what to start from: an open_clip tag, a CLIP's weights, or start weights that "
        "`python -m numclip.research.start_weights` converted; with --recipe one file for each tower that it names",
    )
    parser.add_argument("--start", type=Path, metavar="CHECKPOINT", help="start from this trained network's weights")
    parser.add_argument(
        "--teacher",
        type=Path,
        nargs="+",
        default=[],
        metavar="CHECKPOINT",
        help="learn from the mean of each label and what these networks read off the same crop, and their words",
    )
    parser.add_argument(
        "--teach-once",
        action="store_true",
        help="ask the teachers once for each plain face and its mirror image, instead of each training crop",
    )
    parser.add_argument("--out", required=True, type=Path, help="the folder to write")
    parser.add_argument("--epochs", type=int, help="20; as released: 200 for age, 100 else")
    parser.add_argument("--batch", type=int, help="crops per step, of all processes together; 32")
    parser.add_argument("--lr", type=float, help="highest learning rate; 1e-3, as released 1e-5")
    parser.add_argument("--weight-decay", type=float, help="0.05; as released 0")
    parser.add_argument("--small-side", type=int, metavar="PX", help="side of the crops in the first --small-epochs")
    parser.add_argument("--small-epochs", type=int, default=0, help="epochs on smaller crops, which are cheaper")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="decides the start, the order and each crop's augmentation")
    parser.add_argument("--resume", action="store_true", help="continue OUT/last.pt exactly")
    parser.add_argument("--smoke", action="store_true", help=f"only {SMOKE_FACES} faces per data set: does it run?")
    _add_method_flags(parser)
    _add_protocol_flags(parser)
    group = parser.add_argument_group("computing")
    group.add_argument("--side", type=int, metavar="PX", help="side of the crops; the tower's own")
    group.add_argument(
        "--coverage", type=float, default=1.0, help="how much a crop shows across, as a multiple of the task's"
    )
    group.add_argument(
        "--amp",
        choices=["off", "bf16", "fp16"],
        help="mixed precision, with bfloat16 (off on a CPU without it) or float16; off, as released fp16 on a GPU",
    )
    group.add_argument("--checkpoint-gradients", action="store_true", help="less memory, a third more time")


def _add_method_flags(parser: argparse.ArgumentParser) -> None:
    """What is learned, with which losses, how fast."""
    from ..train.augment import AUGMENTATIONS
    from ..train.groups import GROUPS
    from ..train.method import METHODS

    group = parser.add_argument_group("method")
    group.add_argument("--method", choices=METHODS, default="numclip", help="same data, towers and evaluation for all")
    group.add_argument("--as-released", action="store_true", help="NumCLIP as its authors' code has it, every switch")
    group.add_argument(
        "--weighting", choices=["inside", "outside", "none"], default="outside", help="weights of the ranking losses"
    )
    group.add_argument(
        "--distance", choices=["bins", "values"], default="bins", help="what the weights grow with: bins or units apart"
    )
    group.add_argument(
        "--loss-weights", type=float, nargs=3, metavar=("I2T", "T2I", "L1"), help="of the losses; the method's own"
    )
    group.add_argument("--adapter-ratio", type=float, help="of adapted to plain features; the method's own")
    group.add_argument("--logit-scale", type=float, help="exp(scale) to start from; the tower's own")
    group.add_argument("--train-text", action="store_true", help="train the text tower (always, where it is random)")
    group.add_argument(
        "--lr-of", nargs="+", default=[], metavar="GROUP=RATE", help=f"rates of {', '.join(GROUPS)}; 0 locks a group"
    )
    group.add_argument("--lock", nargs="+", default=[], choices=list(GROUPS), help="groups that stay as they are")
    group.add_argument("--optimizer", choices=["adamw", "radam"], help="adamw; as released: radam")
    group.add_argument(
        "--schedule", choices=["one-cycle", "step"], help="one-cycle; as released: a tenth from epoch 60"
    )
    group.add_argument("--clip", type=float, help="largest norm of the gradient, 0: any; 5, as released 0")
    group.add_argument("--ema", type=float, help="decay of the averaged weights, 0: none; 0.999, as released 0")
    group.add_argument(
        "--select", choices=["val", "test"], help="the split that chooses the epoch; val, as released test"
    )
    group.add_argument(
        "--augment",
        choices=list(AUGMENTATIONS),
        help="how far training crops are changed: strong; as released: released",
    )
    group.add_argument("--normalisation", choices=["own", "imagenet"], help="the tower's own; as released: imagenet")


def _add_protocol_flags(parser: argparse.ArgumentParser) -> None:
    """Which pictures train, choose and test."""
    from ..calibration.data.protocols import SPLIT_RULES, parse_fold, parse_shift
    from ..train.training_data import parse_repeat

    group = parser.add_argument_group("protocol")
    group.add_argument(
        "--split-by",
        choices=SPLIT_RULES,
        help="own: the data set's splits or folds; subject: persons apart; random: single pictures, as papers have it, "
        "which leaks persons; by default own where it leaks none, else subject",
    )
    group.add_argument("--fold", type=parse_fold, metavar="I/N", help="fold I (from 0) of N tests, the rest trains")
    group.add_argument("--shots", type=int, metavar="K", help="so many training pictures of each label")
    group.add_argument("--shift", type=parse_shift, metavar="TOPK:SCALE", help="cut the TOPK most frequent labels")
    group.add_argument("--num-faces", type=int, metavar="N", help="so many training pictures at most, at random; all")
    group.add_argument(
        "--balance", action="store_true", help="smaller data sets several times an epoch, about as often as the largest"
    )
    group.add_argument(
        "--repeat",
        type=parse_repeat,
        nargs="+",
        default=[],
        metavar="FROM-TO:TIMES",
        help="faces with such labels stand in an epoch several times, as 13-19:2 60-120:2; of a band its middle counts",
    )
    group.add_argument("--test", action="store_true", help="at the end measure the test split, into result.json")


def run(args: argparse.Namespace) -> int:
    """Train, and say what to type next."""
    from ..train import TrainOptions, train, train_recipe
    from ..train.groups import parse_rates
    from ..train.options import as_released

    if not args.recipe and len(args.pretrained) > 1:
        raise UsageError(f"expected one --pretrained, got {len(args.pretrained)}; several are for a --recipe")
    options = TrainOptions(tuple(args.data), args.out, task=args.task)
    options = as_released(options) if args.as_released else options
    names = {"small_side": "small_side_px", "side": "side_px", "teacher": "teachers"}
    given = {names.get(name, name): value for name, value in vars(args).items() if value is not None}
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
