"""Exponential moving average of the weights and batch-norm statistics. Validation and checkpoints use the average."""

from __future__ import annotations

import copy
from typing import TypedDict

import torch
from torch import Tensor, nn

from .network import NumCLIP


class AverageState(TypedDict):
    """The average as saved in a training state."""

    steps: int
    network: dict[str, Tensor]


class Average:
    """The averaged network: w <- d w + (1 - d) w', where d rises to `decay` over the first steps."""

    def __init__(self, network: NumCLIP, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay, self.steps = decay, 0
        self._mine, self._theirs = _tensors(self.network), _tensors(network)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average one step towards the current network."""
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        torch._foreach_lerp_(self._mine, self._theirs, 1 - decay)  # pyright: ignore[reportPrivateUsage]

    def state_dict(self) -> AverageState:
        return {"steps": self.steps, "network": self.network.state_dict()}

    def load_state_dict(self, state: AverageState) -> None:
        self.steps = state["steps"]
        self.network.load_state_dict(state["network"])


def _tensors(network: nn.Module) -> list[Tensor]:
    """Return weights and buffers by reference (load_state_dict writes into the same tensors)."""
    return [t for t in network.state_dict().values() if t.is_floating_point()]
