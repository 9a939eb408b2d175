"""Train a NumCLIP, or one of the methods it is measured against, on labelled pictures.

OUT gets best.safetensors (averaged weights of the epoch with the lowest mean error on the `val` splits), last.pt (all that
--resume needs to continue exactly), log.jsonl (one line per epoch) and, with --test, result.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import torch

from ..calibration.data.datasets import DATA_FORMS
from ..errors import UsageError
from .allocator import keep_memory
from .fit import Fit
from .flags import add_compute_flags, add_method_flags, add_protocol_flags, settle
from .recipe import recipe_names, stages
from .tasks_file import load_task
from .training_data import SMOKE_FACES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip train`."""
    parser.add_argument("--recipe", choices=recipe_names(), help="train as a shipped model was trained, in its stages")
    parser.add_argument("--task", default="age", help="a task in train/tasks/ or a .json file")
    parser.add_argument("--data", nargs="+", required=True, metavar="DATA", help=DATA_FORMS)
    parser.add_argument("--model", default="nano", help="nano, small, face-resnet, or any open_clip model name")
    parser.add_argument(
        "--pretrained",
        help="what to start from: an open_clip tag, a checkpoint file, a MobileNetV2 .tflite (nano), "
        "faceres-deep.json (small), dlib (face-resnet)",
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
    parser.add_argument("--out", required=True, type=Path, help="the folder to write")
    parser.add_argument("--epochs", type=int, help="20; as released: 200 for age, 100 else")
    parser.add_argument("--batch", type=int, help="crops per step, of all processes together; 32")
    parser.add_argument("--lr", type=float, help="highest learning rate; 1e-3, as released 1e-5")
    parser.add_argument("--weight-decay", type=float, help="0.05; as released 0")
    parser.add_argument("--small-side", type=int, metavar="PX", help="side of the crops in the first --small-epochs")
    parser.add_argument("--small-epochs", type=int, default=0, help="epochs on smaller crops, which are cheaper")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="continue OUT/last.pt exactly")
    parser.add_argument("--smoke", action="store_true", help=f"only {SMOKE_FACES} faces per data set: does it run?")
    add_method_flags(parser)
    add_protocol_flags(parser)
    add_compute_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Train, and say what to type next."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    defaults = vars(parser.parse_args(["--data", "DATA", "--out", "OUT"]))
    result = [train(part) for part in (stages(args, defaults) if args.recipe else [args])][-1]
    if result["rank"] == 0:
        for name, measured in result.get("test", {}).items():
            print(f"test of {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in measured.items()))
        print(f"best: epoch {result['epoch']}, {result['selected_on']} MAE {result['mae']:.2f} {result['unit']}")
        print(f"next: numclip export {args.out / 'best.safetensors'} --out {args.task}.onnx --data {args.data[0]}")
    return 0


def namespace(**flags: Any) -> argparse.Namespace:
    """The flags of `numclip train` from Python, by their names with `_`; those left out have their defaults.

    `data` (a list of DATA) and `out` (a Path) are needed; `method_changes` may hold fields of Method that no flag has.
    """
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(["--data", *flags["data"], "--out", str(flags["out"])])
    unknown = set(flags) - set(vars(args)) - {"method_changes"}
    if unknown:
        raise UsageError(f"expected flags of numclip train, got {', '.join(sorted(unknown))}; see numclip train --help")
    vars(args).update(flags | {"out": Path(flags["out"])})
    return args


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Train, or go on training; returns the figures of the kept epoch (and of the test split, if that was asked for)."""
    if (args.out / "last.pt").exists() and not args.resume:
        raise UsageError(f"{args.out} already holds a training; say --resume to continue it or give another --out")
    settle(args, load_task(args.task))
    if args.epochs < 1 or args.batch < 2:
        raise UsageError(f"expected --epochs >= 1 and --batch >= 2, got {args.epochs} and {args.batch}")
    if not args.coverage > 0:
        raise UsageError(f"expected --coverage above 0, got {args.coverage:g}; 1 shows what the task's crop shows")
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    keep_memory()
    fit = Fit(args)
    fit.loop()
    return fit.result()
