"""The flags of `numclip train` beyond data and folder, and what the ones left out mean, also under --as-released."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch

from ..calibration.data.protocols import SPLIT_RULES, Protocol, parse_fold, parse_shift
from .augment import AUGMENTATIONS
from .groups import GROUPS
from .method import METHODS, Method
from .tasks_file import Task

NO_BFLOAT16 = ("DEFAULT", "NO AVX", "AVX2")  # CPUs that imitate it: a step of `small` took 20 s instead of 1
# flag: (value by default, value with --as-released); None there: the task's own
DEFAULTS: dict[str, tuple[Any, Any]] = {
    "epochs": (20, None),
    "batch": (32, 32),
    "lr": (1e-3, 1e-5),
    "weight_decay": (0.05, 0.0),
    "optimizer": ("adamw", "radam"),
    "schedule": ("one-cycle", "step"),
    "clip": (5.0, 0.0),
    "ema": (0.999, 0.0),
    "select": ("val", "test"),
    "augment": ("strong", "released"),
    "normalisation": ("own", "imagenet"),
    "precision": ("32", "16"),
}


def add_method_flags(parser: argparse.ArgumentParser) -> None:
    """What is learned, with which losses, how fast."""
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
    group.add_argument("--clip", type=float, help="largest norm of the gradient, 0: any; 5")
    group.add_argument("--ema", type=float, help="decay of the averaged weights, 0: none; 0.999")
    group.add_argument("--select", choices=["val", "test"], help="the split that chooses the epoch; as released: test")
    group.add_argument(
        "--augment",
        choices=list(AUGMENTATIONS),
        help="how far training crops are changed: strong; as released: released",
    )
    group.add_argument("--normalisation", choices=["own", "imagenet"], help="the tower's own; as released: imagenet")


def add_protocol_flags(parser: argparse.ArgumentParser) -> None:
    """Which pictures train, choose and test."""
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
    group.add_argument("--limit", type=int, metavar="N", help="so many training pictures at most, at random")
    group.add_argument(
        "--balance", action="store_true", help="smaller data sets several times an epoch, about as often as the largest"
    )
    group.add_argument("--test", action="store_true", help="at the end measure the test split, into result.json")


def add_compute_flags(parser: argparse.ArgumentParser) -> None:
    """How it is computed; `torchrun --nproc-per-node N -m numclip.cli.main train ...` makes it many processes."""
    group = parser.add_argument_group("computing")
    group.add_argument("--side", type=int, metavar="PX", help="side of the crops; the tower's own")
    group.add_argument(
        "--coverage", type=float, default=1.0, help="how much a crop shows across, as a multiple of the task's"
    )
    group.add_argument(
        "--precision",
        choices=["32", "bf16", "16"],
        help="32, or mixed with bfloat16 (32 on a CPU without it) or float16; 32",
    )
    group.add_argument("--checkpoint-gradients", action="store_true", help="less memory, a third more time")


def settle(args: argparse.Namespace, task: Task) -> None:
    """Put in what was left out."""
    for name, (ordinary, released) in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, released if args.as_released else ordinary)
    if args.epochs is None:
        args.epochs = task.released.epochs
    if not torch.cuda.is_available() and (
        (args.as_released and args.precision == "16")  # float16 on a CPU is slower, and no more exact
        or (args.precision == "bf16" and torch.backends.cpu.get_cpu_capability() in NO_BFLOAT16)
    ):
        args.precision = "32"


def method_of(args: argparse.Namespace, task: Task) -> Method:
    """The method's switches from the flags, and from `args.method_changes` (Python only), which overrules them."""
    if args.as_released:
        method = Method.as_released(task.released.label_offset, learns_context=task.released.learns_context)
    else:
        method = Method.named(args.method)
    if method.name == "numclip" and not args.as_released:
        weighting = None if args.weighting == "none" else args.weighting
        method = replace(method, weighting=weighting, distance=args.distance)
    if args.loss_weights is not None:
        first, second, third = args.loss_weights
        method = replace(method, loss_weights=(first, second, third))
    if args.adapter_ratio is not None:
        method = replace(method, adapter_ratio=args.adapter_ratio)
    return replace(method, **getattr(args, "method_changes", {}))


def protocol_of(args: argparse.Namespace) -> Protocol:
    """The choice of pictures from the flags."""
    return Protocol(args.split_by, args.fold, args.shots, args.shift, args.limit, args.seed)
