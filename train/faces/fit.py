"""Train the face finder: one recipe, resumable, in a given number of steps."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..checkpoint import reading_state
from .batches import Batch, Canvases
from .canvases import Stock
from .losses import finder_loss
from .network import FacesNetwork, FacesShape

PLAN = ((320, 16),) * 5 + ((576, 5),)


@dataclass(frozen=True)
class Recipe:
    """How the finder is trained."""

    steps: int = 12_000
    minutes: float = math.inf  # the schedule ends here at the latest
    rate: float = 3e-3
    warm_up: int = 300  # steps
    decay: float = 0.02
    averaging: float = 0.998  # how much of the averaged weights stays per step
    plan: tuple[tuple[int, int], ...] = PLAN  # (side px, pictures) of one batch after another
    workers: int = 1
    seed: int = 0


def fit(
    stock: Stock,
    teacher: Path,
    out: Path,
    shape: FacesShape,
    recipe: Recipe,
    start: FacesNetwork | None = None,
    state: Mapping[str, Any] | None = None,
) -> FacesNetwork:
    """Train and return the averaged network; writes `out` (a checkpoint) every few minutes.

    state: content of such a checkpoint to go on from. Raises ModelError if it does not fit.
    """
    torch.manual_seed(recipe.seed)
    network = FacesNetwork(shape).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (as torch documents it)
    if start is not None:
        network.load_state_dict(start.state_dict())
    averaged = copy.deepcopy(network).eval()
    kept = [p for p in network.parameters() if p.ndim > 1]
    free = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": kept, "weight_decay": recipe.decay}, {"params": free, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.rate)
    step, before_s = 0, 0.0
    if state is not None:
        with reading_state(out):
            network.load_state_dict(state["network"])
            averaged.load_state_dict(state["averaged"])
            optimizer.load_state_dict(state["optimizer"])
            step, before_s = int(state["step"]), float(state["spent_s"])
    data = Canvases(stock, teacher, recipe.plan, recipe.seed + step)
    loader = DataLoader(
        data, batch_size=None, num_workers=recipe.workers, prefetch_factor=4 if recipe.workers else None
    )
    began, saved, sums, count = time.monotonic(), time.monotonic(), {}, 0
    network.train()
    for batch in loader:
        spent_s = before_s + time.monotonic() - began
        progress = max(step / recipe.steps, spent_s / (60 * recipe.minutes))
        if progress >= 1:
            break
        rate = recipe.rate * min(1.0, (step + 1) / recipe.warm_up) * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-6
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses = train_step(network, optimizer, batch)
        stays = min(recipe.averaging, (step + 1) / (step + 10))
        with torch.no_grad():
            for old, new in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
                if old.is_floating_point():
                    old.lerp_(new, 1 - stays)
                else:
                    old.copy_(new)
        step, count = step + 1, count + 1
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + value
        if step % 100 == 0:
            means = " ".join(f"{key} {value / count:.4f}" for key, value in sums.items())
            print(f"step {step} {spent_s / 60:.1f} min, {progress:.0%}: {means}, rate {rate:.5f}", flush=True)
            sums, count = {}, 0
        if time.monotonic() - saved > 120:
            save(out, network, averaged, optimizer, shape, step, spent_s)
            saved = time.monotonic()
    save(out, network, averaged, optimizer, shape, step, before_s + time.monotonic() - began)
    return averaged


def train_step(network: FacesNetwork, optimizer: torch.optim.Optimizer, batch: Batch) -> dict[str, float]:
    """One step on one batch; the losses as numbers."""
    x = batch.pictures.permute(0, 3, 1, 2).float()  # [B, 3, S, S], channels last in memory
    losses = finder_loss(network(x), batch)
    optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimizer.step()
    return {key: float(value.detach()) for key, value in losses.items()}


def save(
    out: Path,
    network: FacesNetwork,
    averaged: FacesNetwork,
    optimizer: torch.optim.Optimizer,
    shape: FacesShape,
    step: int,
    spent_s: float,
) -> None:
    """Write the checkpoint whole, under a temporary name first."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".part")
    state = {
        "network": network.state_dict(),
        "averaged": averaged.state_dict(),
        "optimizer": optimizer.state_dict(),
        "shape": asdict(shape),
        "step": step,
        "spent_s": spent_s,
    }
    torch.save(state, temporary)
    temporary.replace(out)
