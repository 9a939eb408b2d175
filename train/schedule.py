"""Optimiser and learning rate schedule: AdamW with one cycle, or RAdam with steps as released."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from .groups import ParameterGroup

UNMOVED_STEPS = 5  # the released RAdam makes no update in its first steps, until its variance can be rectified
STEP_EPOCH, STEP_FACTOR = 60, 0.1


def build_optimizer(groups: Sequence[ParameterGroup], name: Literal["adamw", "radam"]) -> torch.optim.Optimizer:
    """Build the optimiser for groups with their own learning rates and weight decays."""
    given = [{**group} for group in groups]
    return torch.optim.RAdam(given) if name == "radam" else torch.optim.AdamW(given)


def build_schedule(
    optimizer: torch.optim.Optimizer, name: Literal["one-cycle", "step"], steps: int, epochs: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Build the schedule: one rate per step, `steps` per epoch; each parameter group keeps its own peak rate."""
    if name == "one-cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, total_steps=steps * epochs + 1, pct_start=0.1)
    waits = isinstance(optimizer, torch.optim.RAdam)

    def factor(step: int) -> float:
        if waits and step < UNMOVED_STEPS:
            return 0.0
        return STEP_FACTOR if step >= STEP_EPOCH * steps else 1.0

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
