"""The loop of a training, and the folder it leaves.

OUT gets best.safetensors (averaged weights of the epoch with the lowest mean error on the `val` splits), last.pt (all that
--resume needs to continue exactly), log.jsonl (one line per epoch) and, with --test, result.json.
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

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..calibration.data.datasets import open_data
from ..errors import ModelError, UsageError
from ..runtime.places import write_json
from .augment import AUGMENTATIONS
from .average import Average
from .batches import Epoch, batches
from .build import build_network, crop_side
from .checkpoint import load_checkpoint, save_checkpoint, save_state
from .flags import protocol_of
from .groups import learning_rates, lock, parameter_groups, parse_rates
from .losses import bins_of, image_to_text_loss, on_device, text_to_image_loss
from .method import Method
from .network import Outputs
from .processes import Waiting, backward, gathered, open_fabric, synchronised
from .schedule import build_optimizer, build_schedule
from .tasks_file import Task, load_task
from .teacher import Teachers, word_divergence
from .training_data import leaks, short_name, split_faces, training_faces
from .validation import figures

IDENTITY = (
    *("task", "model", "side", "epochs", "batch", "lr", "weight_decay", "small_side", "small_epochs", "seed"),
    *("lr_of", "lock", "optimizer", "schedule", "clip", "ema", "select", "augment", "normalisation", "precision"),
    *("split_by", "fold", "shots", "shift", "limit", "balance", "coverage"),
)


class Fit:
    """One training: its data, network, optimiser, and where it stands."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.task = args, load_task(args.task).covering(args.coverage)
        self.fabric = open_fabric(args.precision, args.batch)
        self.device = self.fabric.device
        self.protocol = protocol_of(args)
        self.data = [open_data(text) for text in args.data]
        for dataset in self.data:
            dataset.check_labels(self.task.spec)
        self.side = crop_side(args)
        crop = self.task.crop(self.side)
        with self.fabric.rank_zero_first():
            self.faces, self.counts = training_faces(self.data, crop, args.smoke, self.protocol, balance=args.balance)
            self.validation = [split_faces(d, args.select, crop, args.smoke, self.protocol) for d in self.data]
        self.teachers = Teachers(args.teacher, self.task, self.device) if args.teacher else None
        self.network = build_network(args, self.task, self.faces).to(self.device)
        self.network = self.network.to(memory_format=torch.channels_last)
        rates = learning_rates(
            self.network,
            args.lr,
            dict.fromkeys(args.lock, 0.0) | parse_rates(args.lr_of),
            train_text=args.train_text,
        )
        lock(self.network, rates)
        self.average = Average(self.network, args.ema)
        self.steps = len(self.faces) // args.batch
        if self.steps == 0:
            raise UsageError(
                f"expected at least --batch {args.batch} training faces, got {len(self.faces)}; lower --batch"
            )
        self.groups = parameter_groups(self.network, rates, args.weight_decay)
        self._prepare()
        self.epoch, self.best, self.best_epoch = 0, math.inf, -1
        self.kept: dict[str, dict[str, float]] = {}
        args.out.mkdir(parents=True, exist_ok=True)
        if args.resume:
            self._resume()

    def _prepare(self) -> None:
        """Optimiser and schedule, and network and optimiser as the processes run them; none where nothing is learned."""
        if not self.groups:
            self.args.epochs = 1
            return
        self.optimizer = build_optimizer(self.groups, self.args.optimizer)
        self.schedule = build_schedule(self.optimizer, self.args, self.steps)
        self.model, self.stepper = self.fabric.setup(synchronised(self.network, self.fabric), self.optimizer)

    def loop(self) -> None:
        """All remaining epochs: train, measure on val, write."""
        while self.epoch < self.args.epochs:
            started = time.monotonic()
            losses, wait_s = self._train_epoch() if self.groups else ({}, 0.0)
            trained_s = time.monotonic() - started
            self.epoch += 1
            if self.fabric.is_global_zero:
                metrics = self._validate()
                self._keep(metrics)
                line = {
                    "epoch": self.epoch,
                    "loss": losses,
                    **_by_figure(metrics),
                    "data_wait": round(wait_s / trained_s, 4),
                }
                self._log(line | {"train_s": round(trained_s, 1), "seconds": round(time.monotonic() - started, 1)})
            self.fabric.barrier()

    def _keep(self, metrics: dict[str, dict[str, float]]) -> None:
        """Write the checkpoint if it is the best so far, and the state to continue from."""
        mean = float(np.mean([m["mae"] for m in metrics.values()]))
        if mean < self.best:
            self.best, self.best_epoch, self.kept = mean, self.epoch, metrics
            save_checkpoint(self.args.out / "best.safetensors", self.average.network, self._record(metrics))
        self._save_state()

    def result(self) -> dict[str, Any]:
        """The kept epoch and its figures; with --test those of the test splits, also in OUT/result.json."""
        found: dict[str, Any] = {
            "rank": self.fabric.global_rank,
            "out": str(self.args.out),
            "unit": self.task.spec.unit,
            "selected_on": self.args.select,
        }
        found |= {"epoch": self.best_epoch, "mae": self.best, self.args.select: self.kept, "faces": len(self.faces)}
        if self.args.test and self.fabric.is_global_zero:
            network, _ = load_checkpoint(self.args.out / "best.safetensors")
            crop = self.task.crop(self.side)
            parts = [split_faces(d, "test", crop, self.args.smoke, self.protocol) for d in self.data]
            network = network.to(self.device)
            found["test"] = {v.name: figures(network, v.crops, v.labels, self.task.spec) for v in parts}
            found["leaks"] = leaks(self.data, self.protocol)
            write_json(str(self.args.out / "result.json"), found | {"flags": self._flags()})
        return found

    def _train_epoch(self) -> tuple[dict[str, float], float]:
        """Mean losses of the epoch, and the seconds its steps waited for data."""
        self.network.train()
        small = self.args.small_side if self.epoch < self.args.small_epochs else None
        side = small or self.side
        how, share = AUGMENTATIONS[self.args.augment], (self.fabric.global_rank, self.fabric.world_size)
        epoch = Epoch(self.faces, self.epoch, self.args.batch, side, self.args.seed, how, share)
        source = Waiting(batches(epoch))
        total = torch.zeros(3, device=self.device)
        progress = tqdm(source, total=self.steps, desc=f"epoch {self.epoch + 1}/{self.args.epochs}", disable=None)
        for crops, labels in progress:
            crops, labels = crops.to(self.device), labels.to(self.device)
            outputs, extra = self.model(crops), torch.zeros(())
            if self.teachers:
                with self.fabric.autocast():
                    taught, words = self.teachers.read(crops)
                labels = (labels + taught) / 2
                extra = word_divergence(outputs.logits, words) / self.fabric.world_size  # of this process's share
            outputs, labels = gathered(self.fabric, outputs, labels)
            parts = loss_parts(outputs, labels, self.network.task, self.network.method)
            loss = extra + sum(w * part for w, part in zip(self.network.method.loss_weights, parts, strict=True))
            if not torch.isfinite(loss):
                raise ModelError(
                    f"epoch {self.epoch + 1}: the loss is {loss.item()}; lower --lr or resume an earlier state"
                )
            self.stepper.zero_grad(set_to_none=True)
            backward(self.fabric, loss)
            if self.args.clip:
                self.fabric.clip_gradients(self.model, self.stepper, max_norm=self.args.clip, error_if_nonfinite=False)
            self.stepper.step()
            self.schedule.step()
            self.average.update()
            total += torch.stack(parts).detach()
        names = ("image_to_text", "text_to_image", "l1")
        return {n: round(v / self.steps, 6) for n, v in zip(names, total.tolist(), strict=True)}, source.waited_s

    def _validate(self) -> dict[str, dict[str, float]]:
        """The figures of the averaged weights on each data set's split to choose on."""
        return {v.name: figures(self.average.network, v.crops, v.labels, self.task.spec) for v in self.validation}

    def _flags(self) -> dict[str, Any]:
        """The flags, without this machine's folders."""
        flags = {k: str(v) if isinstance(v, Path) else v for k, v in vars(self.args).items() if not k.startswith("_")}
        flags |= {"data": [short_name(d) for d in self.args.data], "out": self.args.out.name}
        for name in ("pretrained", "start"):
            flags[name] = None if flags[name] is None else Path(flags[name]).name
        flags["teacher"] = [path.name for path in self.args.teacher]
        return flags

    def _record(self, metrics: dict[str, dict[str, float]]) -> dict[str, Any]:
        packages = ("torch", "open_clip_torch", "timm", "numpy", "opencv-python")
        return {
            "data": self.counts,
            "epoch": self.epoch,
            **_by_figure(metrics),
            "selected_on": self.args.select,
            "flags": self._flags(),
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
            "kept": self.kept,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict() if self.groups else {},
            "schedule": self.schedule.state_dict() if self.groups else {},
            "scaler": self.fabric.strategy.precision.state_dict(),
            "rng": torch.get_rng_state(),
            "identity": self._identity(),
        }
        save_state(self.args.out / "last.pt", state)

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a training to continue."""
        method = self.network.method.to_json()
        teacher = self._flags()["teacher"]
        same = {"faces": len(self.faces), "method": method, "teacher": teacher}
        return {n: getattr(self.args, n) for n in IDENTITY} | same

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
        if self.groups:
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"].cpu())
        self.epoch, self.best, self.best_epoch = state["epoch"], state["best"], state["best_epoch"]
        self.kept = state["kept"]


def _by_figure(metrics: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """`val_mae`, `val_cs5`, `val_coarse`: each by data set."""
    return {f"val_{key}": {name: m[key] for name, m in metrics.items()} for key in ("mae", "cs5", "coarse")}


def loss_parts(outputs: Outputs, labels: Tensor, task: Task, method: Method) -> tuple[Tensor, Tensor, Tensor]:
    """Image-to-text, text-to-image and L1, each a scalar; the weights are the method's. labels: float [N]."""
    shifted = labels - method.label_offset
    bins = bins_of(shifted, task.spec.bin_edges, as_released=method.label_offset != 0)
    centers = task.spec.bin_centers
    at = on_device(centers, outputs.logits.dtype, outputs.logits.device) if method.distance == "values" else None
    return (
        image_to_text_loss(outputs.logits, bins, method.weighting, at),
        text_to_image_loss(outputs.logits, bins, method.weighting, at),
        (outputs.value - labels).abs().mean(),
    )
