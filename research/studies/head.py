"""One run: a network by recipe, trained for a number of steps on a study's pictures, and measured on others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...calibration.data.protocols import Protocol
from ...errors import DataError
from ...train.fit import loss_parts
from ...train.groups import learning_rates, lock, parameter_groups
from ...train.method import Method
from ...train.network import NumCLIP, Outputs
from ...train.prompts import Prompt
from ...train.tasks_file import Released, Task
from ...train.towers import open_clip
from ...train.validation import bins_of, coarse_bins
from .bench import Bench, Pictures
from .frame import Run

CLIP_NORM = 5.0


@dataclass(frozen=True)
class Recipe:
    """What a run may change, as plain values; the defaults are NumCLIP on the first data set's whole training split."""

    method: Mapping[str, Any] | None = None  # `name`, or `as_released`, then fields of Method
    bins: int | None = None  # so many equal bins over the scale instead of the task's words
    train_on: tuple[int, ...] = (0,)  # data sets by their place in --data
    keep: tuple[float | None, float | None] = (None, None)  # only labels from .. up to, but without, .. train
    shots: int | None = None
    shift: tuple[int, float] | None = None
    scale: float | None = None  # exp(logit_scale), fixed

    def build_method(self, task: Task) -> Method:
        """The method with its switches."""
        raw = dict(self.method or {})
        if raw.pop("as_released", False):
            method = Method.as_released(task.released.label_offset, learns_context=task.released.learns_context)
        else:
            method = Method.named(raw.pop("name", "numclip"))
        return replace(method, **{k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()})


def train_and_judge(bench: Bench, run: Run) -> dict[str, Any]:
    """The way of most runs: train by the recipe, measure on the first data set's val split."""
    recipe = Recipe(**run.changes)
    network, n = train(bench, recipe, run.seed)
    pictures = bench.pictures(0, "val")
    return {
        "figures": {"train_n": n, **figures(answers(network, pictures.inputs), pictures.labels, network, bench.task)}
    }


def train(bench: Bench, recipe: Recipe, seed: int) -> tuple[NumCLIP, int]:
    """A trained network in eval mode, and on how many pictures; raises DataError where none are left."""
    parts = [_training_part(bench.pictures(at, "train"), recipe, seed) for at in recipe.train_on]
    inputs = torch.cat([p.inputs for p in parts])
    labels = torch.from_numpy(np.concatenate([p.labels for p in parts])).float().to(bench.device)
    torch.manual_seed(seed)  # after the pictures, which may have needed a tower of their own
    network = build(bench, recipe)
    settings = bench.settings
    rates = learning_rates(network, settings.lr, {} if recipe.scale is None else {"scale": 0.0}, train_text=False)
    lock(network, rates)
    if any(p.requires_grad for p in network.parameters()):
        _fit(network, inputs, labels, bench, rates, seed)
    return network.eval(), len(labels)


def _training_part(pictures: Pictures, recipe: Recipe, seed: int) -> Pictures:
    low, high = (end if given is None else given for end, given in zip((-math.inf, math.inf), recipe.keep, strict=True))
    kept = tuple(s for s in pictures.samples if low <= s.label < high)
    shift = None if recipe.shift is None else (int(recipe.shift[0]), float(recipe.shift[1]))
    chosen = Protocol(shots=recipe.shots, shift=shift, seed=seed).training(kept)
    if not chosen:
        raise DataError(f"expected training pictures with labels from {low} to {high}, there are none; widen the range")
    return pictures if len(chosen) == len(pictures.samples) else pictures.take(chosen)


def build(bench: Bench, recipe: Recipe) -> NumCLIP:
    """The untrained network, from torch's random state."""
    towers = bench.towers()
    method = recipe.build_method(bench.task)
    task = bench.task if recipe.bins is None else equal_bins(bench.task, recipe.bins)
    if method.ranks:
        task = task.with_ranks()
    length = towers.text.positional_embedding.shape[0]
    tokenize = open_clip.get_tokenizer(bench.settings.model, context_length=length)
    words = task.spec.words
    prompt = Prompt.from_words(tokenize, towers.token_embedding, task.context, words, length, method.base_ranks)
    network = NumCLIP(task, towers, prompt, method)
    if recipe.scale is not None:
        with torch.no_grad():
            network.logit_scale.fill_(math.log(recipe.scale))
    return network.to(bench.device)


def equal_bins(task: Task, count: int) -> Task:
    """The task with `count` bins of equal width, named by their ends."""
    edges = np.linspace(task.spec.bin_edges[0], task.spec.bin_edges[-1], count + 1)
    words = tuple(f"{a:g} to {b:g} {task.spec.unit}" for a, b in pairwise(np.round(edges, 1)))
    spec = replace(task.spec, bin_edges=tuple(float(e) for e in edges), words=words)
    return replace(task, spec=spec, words_by="ours", released=Released())


def _fit(network: NumCLIP, inputs: Tensor, labels: Tensor, bench: Bench, rates: dict[str, float], seed: int) -> None:
    """AdamW with one cycle of the learning rate, batches drawn with replacement."""
    settings = bench.settings
    optimizer = torch.optim.AdamW(parameter_groups(network, rates, settings.weight_decay), lr=settings.lr, fused=True)
    peaks = [group["lr"] for group in optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=settings.steps + 1, pct_start=0.1)
    draw = torch.Generator().manual_seed(seed)
    weights = network.method.loss_weights
    network.train()
    for _ in range(settings.steps):
        chosen = torch.randint(len(labels), (settings.batch,), generator=draw)
        batch = _mirrored(inputs[chosen], draw).to(bench.device)
        outputs = network.read(embed(network, batch), network.text_bins())
        parts = loss_parts(outputs, labels[chosen], network.task, network.method)
        loss = torch.stack([w * part for w, part in zip(weights, parts, strict=True)]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        optimizer.step()
        schedule.step()


def _mirrored(batch: Tensor, draw: torch.Generator) -> Tensor:
    """Crops [B, S, S, 3] with half of them mirrored; features [B, F] as they are."""
    if batch.ndim == 2:
        return batch
    mirrored = torch.rand(len(batch), generator=draw) < 0.5
    return torch.where(mirrored[:, None, None, None], batch.flip(2), batch)


def embed(network: NumCLIP, inputs: Tensor) -> Tensor:
    """[N, D] the L2-normalised embedding of crops, or of a frozen tower's features."""
    if inputs.dtype == torch.uint8:
        return network.embed(inputs)
    return functional.normalize(network.adapter(network.image_tower(inputs)), dim=1)


@torch.no_grad()
def answers(network: NumCLIP, inputs: Tensor) -> Outputs:
    """What the network says about N pictures; values clipped to the task's range, all on the CPU."""
    bins, device = network.text_bins(), network.mean.device
    parts = [network.read(embed(network, part.to(device)), bins) for part in inputs.split(256)]
    value, *rest = (torch.cat(tensors).float().cpu() for tensors in zip(*parts, strict=True))
    return Outputs(value.clamp(network.task.spec.low, network.task.spec.high), *rest)


def figures(outputs: Outputs, labels: np.ndarray, network: NumCLIP, words: Task) -> dict[str, float]:
    """The figures of a run: errors in the task's unit, and how good the words of the task `words` are.

    `coarse`: the likeliest word is the right one; `near`: or its neighbour; `mae_likeliest`: the error of answering the
    center of the likeliest of the network's own bins.
    """
    probabilities = outputs.probabilities.double().numpy()
    error = outputs.value.double().numpy() - labels
    said, right = coarse_bins(network.task.spec, probabilities, words.spec), bins_of(labels, words.spec)
    centers = np.array(network.task.spec.bin_centers)[probabilities.argmax(axis=1)]
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
