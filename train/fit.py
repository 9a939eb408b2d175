"""Train a NumCLIP on labelled faces: the loop, its flags, and the folder it leaves.

OUT gets best.safetensors (averaged weights of the epoch with the lowest mean error on the `val` splits), last.pt (all that
--resume needs to continue exactly) and log.jsonl (one line per epoch).
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..calibration.datasets import open_data
from ..errors import ModelError, UsageError
from .augment import AUGMENTATIONS, Augmentation
from .average import Average
from .batches import TrainingFaces, batches
from .checkpoint import load_checkpoint, save_checkpoint, save_state
from .losses import bins_of, image_to_text_loss, text_to_image_loss
from .network import Method, NumCLIP, Outputs
from .prompts import Prompt
from .recipe import recipe_names, stages
from .tasks_file import Task, load_task
from .towers import build_towers, input_side, open_clip
from .training_data import SMOKE_FACES, short_name, training_faces, validation_faces

EMA_DECAY = 0.999
CLIP_NORM = 5.0
IDENTITY = [
    "task",
    "model",
    "epochs",
    "batch",
    "lr",
    "weight_decay",
    "small_side",
    "small_epochs",
    "weighting",
    "augment",
    "seed",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip train`."""
    parser.add_argument("--recipe", choices=recipe_names(), help="train as a shipped model was trained, in its stages")
    parser.add_argument("--task", default="age", help="a task in train/tasks/ or a .json file")
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="DATA", help="utkface:PATH, aaf:PATH or table:FILE.csv"
    )
    parser.add_argument("--model", default="nano", help="nano, small, or any open_clip model name")
    parser.add_argument(
        "--pretrained", help="an open_clip tag, a checkpoint file, or a MobileNetV2 .tflite to start from"
    )
    parser.add_argument("--start", type=Path, metavar="CHECKPOINT", help="start from this trained network's weights")
    parser.add_argument("--out", required=True, type=Path, help="the folder to write")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32, help="crops per step")
    parser.add_argument("--lr", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--small-side", type=int, metavar="PX", help="side of the crops in the first --small-epochs")
    parser.add_argument("--small-epochs", type=int, default=0, help="epochs on smaller crops, which are cheaper")
    parser.add_argument(
        "--weighting", choices=["inside", "outside", "none"], default="outside", help="weights of the losses"
    )
    parser.add_argument("--augment", choices=AUGMENTATIONS, default="strong", help="how far training crops are changed")
    parser.add_argument("--as-released", action="store_true", help="the method as its authors' code has it")
    parser.add_argument(
        "--train-text", action="store_true", help="train the text tower too (always, where it is random)"
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="continue OUT/last.pt exactly")
    parser.add_argument("--smoke", action="store_true", help=f"only {SMOKE_FACES} faces per data set: does it run?")


def run(args: argparse.Namespace) -> int:
    """Train, and say what to type next."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    defaults = vars(parser.parse_args(["--data", "DATA", "--out", "OUT"]))
    fit = [_train(part) for part in (stages(args, defaults) if args.recipe else [args])][-1]
    print(f"best: epoch {fit.best_epoch}, val MAE {fit.best:.2f} {fit.task.spec.unit}")
    print(f"next: numclip export {args.out / 'best.safetensors'} --out {args.task}.onnx --data {args.data[0]}")
    return 0


def _train(args: argparse.Namespace) -> Fit:
    """One training from its flags."""
    if (args.out / "last.pt").exists() and not args.resume:
        raise UsageError(f"{args.out} already holds a training; say --resume to continue it or give another --out")
    if args.epochs < 1 or args.batch < 2:
        raise UsageError(f"expected --epochs >= 1 and --batch >= 2, got {args.epochs} and {args.batch}")
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    fit = Fit(args)
    fit.loop()
    return fit


class Fit:
    """One training: its data, network, optimiser, and where it stands."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.task = args, load_task(args.task)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        data = [open_data(text) for text in args.data]
        side = input_side(args.model)
        crop = self.task.crop(side)
        self.faces, self.counts = training_faces(data, crop, args.smoke)
        self.validation = [validation_faces(d, crop, args.smoke) for d in data]
        self.side = side
        self.network = _build(args, self.task, self.faces, side).to(self.device)
        self.network = self.network.to(memory_format=torch.channels_last)
        self.average = Average(self.network, EMA_DECAY)
        self.steps = len(self.faces) // args.batch
        if self.steps == 0:
            raise UsageError(
                f"expected at least --batch {args.batch} training faces, got {len(self.faces)}; lower --batch"
            )
        self.optimizer = torch.optim.AdamW(_groups(self.network, args), lr=args.lr)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, args.lr, total_steps=self.steps * args.epochs + 1, pct_start=0.1
        )
        self.epoch, self.best, self.best_epoch = 0, math.inf, -1
        args.out.mkdir(parents=True, exist_ok=True)
        if args.resume:
            self._resume()

    def loop(self) -> None:
        """All remaining epochs: train, measure on val, write."""
        while self.epoch < self.args.epochs:
            started = time.monotonic()
            losses = self._train_epoch()
            metrics = self._validate()
            mean = float(np.mean(list(metrics.values())))
            self.epoch += 1
            if mean < self.best:
                self.best, self.best_epoch = mean, self.epoch
                save_checkpoint(self.args.out / "best.safetensors", self.average.network, self._record(metrics))
            self._save_state()
            self._log(
                {"epoch": self.epoch, "loss": losses, "val_mae": metrics, "seconds": round(time.monotonic() - started)}
            )

    def _train_epoch(self) -> dict[str, float]:
        self.network.train()
        small = self.args.small_side if self.epoch < self.args.small_epochs else None
        side = small or self.side
        source = batches(
            self.faces, self.epoch, self.args.batch, side, self.args.seed, Augmentation.named(self.args.augment)
        )
        total = torch.zeros(3)
        progress = tqdm(source, total=self.steps, desc=f"epoch {self.epoch + 1}/{self.args.epochs}", disable=None)
        for crops, labels in progress:
            outputs = self.network(crops.to(self.device))
            parts = loss_parts(outputs, labels.to(self.device), self.task, self.network.method)
            loss = sum(w * part for w, part in zip(self.network.method.loss_weights, parts, strict=True))
            assert isinstance(loss, Tensor)
            if not torch.isfinite(loss):
                raise ModelError(
                    f"epoch {self.epoch + 1}: the loss is {loss.item()}; lower --lr or resume an earlier state"
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
            self.optimizer.step()
            self.schedule.step()
            self.average.update()
            total += torch.stack([p.detach().cpu() for p in parts])
        names = ("image_to_text", "text_to_image", "l1")
        return {n: round(float(v) / self.steps, 4) for n, v in zip(names, total, strict=True)}

    def _validate(self) -> dict[str, float]:
        """Mean absolute error of the averaged weights on each data set's val split."""
        network = self.average.network
        return {v.name: round(float(np.abs(values_of(network, v.crops) - v.labels).mean()), 4) for v in self.validation}

    def _record(self, metrics: dict[str, float]) -> dict[str, Any]:
        packages = ("torch", "open_clip_torch", "timm", "numpy", "opencv-python")
        flags = {k: str(v) if isinstance(v, Path) else v for k, v in vars(self.args).items() if not k.startswith("_")}
        flags |= {"data": [short_name(d) for d in self.args.data], "out": self.args.out.name}
        for name in ("pretrained", "start"):
            flags[name] = None if flags[name] is None else Path(flags[name]).name
        return {
            "data": self.counts,
            "epoch": self.epoch,
            "val_mae": metrics,
            "flags": flags,
            "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        }

    def _log(self, line: dict[str, Any]) -> None:
        with (self.args.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), file=sys.stderr, flush=True)

    def _save_state(self) -> None:
        state = {
            "epoch": self.epoch,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rng": torch.get_rng_state(),
            "identity": self._identity(),
        }
        save_state(self.args.out / "last.pt", state)

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a training to continue."""
        method = self.network.method.to_json()
        return {n: getattr(self.args, n) for n in IDENTITY} | {"faces": len(self.faces), "method": method}

    def _resume(self) -> None:
        path = self.args.out / "last.pt"
        if not path.is_file():
            raise UsageError(f"expected {path} to resume from, found nothing; leave --resume out to start")
        state = torch.load(path, weights_only=True, map_location=self.device)
        mine, theirs = self._identity(), state["identity"]
        for name in mine:
            if json.dumps(mine[name]) != json.dumps(theirs.get(name)):
                raise UsageError(
                    f"{path}: expected {name} {theirs.get(name)!r} as it began, got {mine[name]!r}; give the same"
                )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["rng"].cpu())
        self.epoch, self.best, self.best_epoch = state["epoch"], state["best"], state["best_epoch"]


def loss_parts(outputs: Outputs, labels: Tensor, task: Task, method: Method) -> tuple[Tensor, Tensor, Tensor]:
    """Image-to-text, text-to-image and L1, each a scalar; the weights are the method's. labels: float [N]."""
    shifted = labels - method.label_offset
    bins = bins_of(shifted, task.spec.bin_edges, as_released=method.label_offset != 0)
    return (
        image_to_text_loss(outputs.logits, bins, method.weighting),
        text_to_image_loss(outputs.logits, bins, method.weighting),
        (outputs.value - labels).abs().mean(),
    )


@torch.no_grad()
def values_of(network: NumCLIP, crops: Any, batch: int = 128) -> Any:
    """float64 [N] the clipped values for uint8 crops [N, S, S, 3]."""
    device = network.mean.device
    bins = network.text_bins()
    found: list[Any] = []
    for start in range(0, len(crops), batch):
        part = torch.from_numpy(np.array(crops[start : start + batch])).to(device)
        found.append(network.read(network.embed(part), bins).value.cpu().numpy())
    return np.clip(np.concatenate(found).astype(np.float64), network.task.spec.low, network.task.spec.high)


def _build(args: argparse.Namespace, task: Task, faces: TrainingFaces, side: int) -> NumCLIP:
    start = (faces.parts[0].shape[1] - side) // 2
    chosen = np.linspace(0, len(faces) - 1, 64).astype(int)
    pictures = np.stack([faces.crop(int(i))[start : start + side, start : start + side] for i in chosen])
    towers = build_towers(args.model, args.pretrained, torch.from_numpy(pictures))
    length = towers.text.positional_embedding.shape[0]
    tokenize = open_clip.get_tokenizer(args.model, context_length=length)
    prompt = Prompt.from_words(tokenize, towers.token_embedding, task.context, task.spec.words, length)
    method = Method.as_released() if args.as_released else Method(None if args.weighting == "none" else args.weighting)
    network = NumCLIP(task, towers, prompt, method)
    if args.start is not None:
        _start_from(network, args.start)
    if network.record["language_pretrained"]:
        network.text_tower.requires_grad_(args.train_text)
        network.logit_scale.requires_grad_(False)
    return network


def _start_from(network: NumCLIP, path: Path) -> None:
    """Take over all weights of a checkpoint; its crops may have another side, its tensors not another shape."""
    trained, _ = load_checkpoint(path)
    try:
        network.load_state_dict(trained.state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"--start {path}: expected the same network with another side at most: {reason}") from None
    network.record |= {name: trained.record[name] for name in ("pretrained", "language_pretrained")}


def _groups(network: NumCLIP, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Weight decay on matrices and kernels only; none on biases, norms, prompts and the logit scale."""
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (free if parameter.ndim < 2 or name.startswith("prompt") else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": args.weight_decay}, {"params": free, "weight_decay": 0.0}]
