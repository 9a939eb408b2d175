"""One run: build a network from a recipe, train it for a number of steps, and measure it on other pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...calibration.data.protocols import Protocol
from ...errors import DataError
from ...runtime.contract.spec import TaskSpec
from ...runtime.sessions.session import Outputs
from ...train.build import from_towers
from ...train.checkpoint_model import predict
from ...train.loop import HeadOptions, train_head
from ...train.method import Method
from ...train.network import NumCLIP
from ...train.records import Json, from_json, to_json
from ...train.tasks_file import Released, Task
from ...train.validation import bins_of, coarse_bins
from .bench import Bench, Pictures
from .frame import Measured, Run


@dataclass(frozen=True)
class Recipe:
    """The settings that a run may change; the defaults are NumCLIP on the first data set's complete training split."""

    method: dict[str, Json] | None = None
    """`name` or `as_released`, and fields of Method."""
    bins: int | None = None
    """Number of equal bins over the scale, instead of the task's words."""
    train_on: tuple[int, ...] = (0,)
    """Data sets to train on, by index in --data."""
    keep: tuple[float | None, float | None] = (None, None)
    """[from, to): train only on labels in this range; None: no limit."""
    shots: int | None = None
    """Number of training pictures per label."""
    shift: tuple[int, float] | None = None
    """[K, share]: of the K most frequent labels, train on this share of the pictures only."""
    scale: float | None = None
    """Fixed value of exp(logit_scale)."""

    @staticmethod
    def of(run: Run) -> Recipe:
        """Read a run's changes; raises ValueError for an unknown setting."""
        return from_json(Recipe, run.changes, run.row)

    def build_method(self, task: Task) -> Method:
        """Return the method with its switches; raises ValueError for an unknown switch."""
        raw = dict(self.method or {})
        if raw.pop("as_released", False):
            method = Method.as_released(task.released.label_offset, learns_context=task.released.learns_context)
        else:
            method = Method.named(str(raw.pop("name", "numclip")))
        return from_json(Method, to_json(method) | raw, "method")


def train_and_judge(bench: Bench, run: Run) -> Measured:
    """Train by the recipe and measure on the first data set's val split, as most runs do."""
    network, n = train(bench, Recipe.of(run), run.seed)
    pictures = bench.pictures(0, "val")
    found = figures(answers(network, pictures.inputs), pictures.labels, network.task.spec, bench.task.spec)
    return Measured({"train_n": n, **found})


def train(bench: Bench, recipe: Recipe, seed: int) -> tuple[NumCLIP, int]:
    """Train a network; returns it in eval mode, and the number of pictures. Raises DataError if no pictures are left."""
    parts = [_training_part(bench.pictures(at, "train"), recipe, seed) for at in recipe.train_on]
    inputs = torch.cat([p.inputs for p in parts])
    labels = torch.from_numpy(np.concatenate([p.labels for p in parts])).float()
    torch.manual_seed(seed)  # after loading the pictures, which may build a tower and so use random numbers
    network, base = build(bench, recipe), bench.settings
    rates = None if recipe.scale is None else {"scale": 0.0}
    options = HeadOptions(base.steps, base.batch, base.lr, base.weight_decay, seed, rates=rates)
    return train_head(network, inputs, labels, options), len(labels)


def _training_part(pictures: Pictures, recipe: Recipe, seed: int) -> Pictures:
    low, high = (end if given is None else given for end, given in zip((-math.inf, math.inf), recipe.keep, strict=True))
    kept = tuple(s for s in pictures.samples if low <= s.label < high)
    chosen = Protocol(shots=recipe.shots, shift=recipe.shift, seed=seed).training(kept)
    if not chosen:
        raise DataError(
            f"expected training pictures with labels from {low} to {high}, found none; choose a wider range"
        )
    return pictures if len(chosen) == len(pictures.samples) else pictures.take(chosen)


def build(bench: Bench, recipe: Recipe) -> NumCLIP:
    """Build the untrained network from torch's random state."""
    towers = bench.towers()
    task = bench.task if recipe.bins is None else equal_bins(bench.task, recipe.bins)
    network = from_towers(towers, task, recipe.build_method(bench.task))
    if recipe.scale is not None:
        with torch.no_grad():
            network.logit_scale.fill_(math.log(recipe.scale))
    return network.to(bench.device)


def equal_bins(task: Task, count: int) -> Task:
    """Return the task with `count` bins of equal width, named by their ends."""
    edges = np.linspace(task.spec.bin_edges[0], task.spec.bin_edges[-1], count + 1)
    words = tuple(f"{a:g} to {b:g} {task.spec.unit}" for a, b in pairwise(np.round(edges, 1)))
    spec = replace(task.spec, bin_edges=tuple(float(e) for e in edges), words=words)
    return replace(task, spec=spec, words_by="ours", released=Released())


def answers(network: NumCLIP, inputs: Tensor) -> Outputs:
    """Run a network in eval mode on N pictures; values are clipped to the task's range."""
    return predict(network, network.task.spec, inputs, network.mean.device)


def figures(outputs: Outputs, labels: npt.NDArray[np.float64], own: TaskSpec, words: TaskSpec) -> dict[str, float]:
    """Return the figures of a run: errors in the task's unit, and the accuracy for the words of the task `words`.

    own: the task of the network, whose bins its probabilities refer to.
    `coarse`: share of faces whose most likely word is right; `near`: right or next to it; `mae_likeliest`: the error of choosing
    the center of the most likely of the network's own bins.
    """
    probabilities = outputs.probabilities.astype(np.float64)
    error = outputs.value.astype(np.float64) - labels
    said, right = coarse_bins(own, probabilities, words), bins_of(labels, words)
    centers = np.array(own.bin_centers)[probabilities.argmax(axis=1)]
    found = {
        "mae": np.abs(error).mean(),
        "cs5": (np.abs(error) <= 5).mean(),
        "exact": (np.abs(error) < 0.5).mean(),
        "bias": error.mean(),
        "coarse": (said == right).mean(),
        "near": (np.abs(said - right) <= 1).mean(),
        "mae_likeliest": np.abs(centers - labels).mean(),
    }
    return {name: round(float(value), 4) for name, value in found.items()}
