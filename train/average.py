"""The exponential moving average of a network's weights and batch statistics: what is measured and kept."""

from __future__ import annotations

import copy
from typing import TypedDict

import torch
from torch import Tensor, nn

from .network import NumCLIP


class AverageState(TypedDict):
    """What a training state keeps of an average."""

    steps: int
    network: dict[str, Tensor]


class Average:
    """A second network that follows the first: w <- d w + (1 - d) w', with d rising to `decay` over the first steps."""

    def __init__(self, network: NumCLIP, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay, self.steps = decay, 0
        self._mine, self._theirs = _tensors(self.network), _tensors(network)

    @torch.no_grad()
    def update(self) -> None:
        """One step towards the network as it is now."""
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        torch._foreach_lerp_(self._mine, self._theirs, 1 - decay)  # pyright: ignore[reportPrivateUsage]

    def state_dict(self) -> AverageState:
        return {"steps": self.steps, "network": self.network.state_dict()}

    def load_state_dict(self, state: AverageState) -> None:
        self.steps = state["steps"]
        self.network.load_state_dict(state["network"])


def _tensors(network: nn.Module) -> list[Tensor]:
    """Weights and kept statistics, as they lie in memory (load_state_dict writes into the same tensors)."""
    return [t for t in network.state_dict().values() if t.is_floating_point()]
