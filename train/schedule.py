"""The optimiser and the course of its learning rate: AdamW under one cycle, or RAdam in steps as released."""

from __future__ import annotations

import argparse
from typing import Any

import torch

UNMOVED_STEPS = 5  # the released RAdam updates nothing in its first steps, while its variance is not rectified
STEP_EPOCH, STEP_FACTOR = 60, 0.1


def build_optimizer(groups: list[dict[str, Any]], name: str) -> torch.optim.Optimizer:
    """For groups with their own rates and weight decays."""
    return torch.optim.RAdam(groups) if name == "radam" else torch.optim.AdamW(groups)


def build_schedule(optimizer: torch.optim.Optimizer, args: argparse.Namespace, steps: int) -> Any:
    """A rate for each of the `steps` of every epoch; each group of parameters keeps its own highest one."""
    if args.schedule == "one-cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        total = steps * args.epochs + 1
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, total_steps=total, pct_start=0.1)

    def factor(step: int) -> float:
        if args.optimizer == "radam" and step < UNMOVED_STEPS:
            return 0.0
        return STEP_FACTOR if step >= STEP_EPOCH * steps else 1.0

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
