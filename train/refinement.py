"""From words to a number: the regressor that refines the expected bin value (arXiv 2408.03574, section on refinement)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MIN_DENOMINATOR = 0.05  # released refinement only: 1 + delta is kept away from 0


class Expectation(nn.Module):
    """No refinement: value = sum_k p_k b_k over the bin centers b, as in CLIP, CoOp and OrdinalCLIP."""

    values: Tensor

    def __init__(self, edges: tuple[float, ...]) -> None:
        super().__init__()
        edge = torch.tensor(edges, dtype=torch.float32)
        self.register_buffer("values", (edge[:-1] + edge[1:]) / 2, persistent=False)

    def forward(self, logits: Tensor, embedding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return probabilities [N, K] and value [N] of logits float [N, K]; the embedding is ignored."""
        probabilities = torch.softmax(logits, dim=1)
        return probabilities, (probabilities * self.values).sum(dim=1)


class Refinement(nn.Module):
    """Two small layers that move each bin's value, and the expectation over the bins.

    As released: value = sum_k p_k b_k / (1 + delta_k), b the lower edges, delta = tanh(A2 relu(A1 s + c1) + c2). If the
    first bin starts at 0, its value is then always 0. Repaired (the default): value = sum_k p_k (b_k + w_k delta_k),
    b the bin centers and w the bin widths, so that every bin can reach its edges and a little beyond.
    """

    values: Tensor
    widths: Tensor

    def __init__(
        self,
        edges: tuple[float, ...],
        *,
        as_released: bool,
        hidden: int,
        embedding_dim: int = 0,
        released_values: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        edge = torch.tensor(edges, dtype=torch.float32)
        self.as_released = as_released
        released = edge[:-1] if released_values is None else torch.tensor(released_values, dtype=torch.float32)
        self.register_buffer("values", released if as_released else (edge[:-1] + edge[1:]) / 2, persistent=False)
        self.register_buffer("widths", edge[1:] - edge[:-1], persistent=False)
        num_bins = len(edges) - 1
        self.hidden = nn.Linear(num_bins + embedding_dim, hidden)
        self.delta = nn.Linear(hidden, num_bins)
        for layer in (self.hidden, self.delta):
            nn.init.zeros_(layer.bias)
        if as_released or not embedding_dim:
            for layer in (self.hidden, self.delta):
                nn.init.normal_(layer.weight, std=0.001)
        else:
            nn.init.normal_(self.delta.weight, std=0.001)

    def forward(self, logits: Tensor, embedding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return probabilities [N, K] and value [N] of logits float [N, K] (and of the embedding [N, D] if configured)."""
        inputs = logits if embedding is None else torch.cat([logits, embedding], dim=1)
        delta = torch.tanh(self.delta(torch.relu(self.hidden(inputs))))  # [N, K]
        probabilities = torch.softmax(logits, dim=1)
        return probabilities, self.combine(probabilities, delta)

    def combine(self, probabilities: Tensor, delta: Tensor) -> Tensor:
        """Return the refined value [N] of probabilities [N, K] and delta [N, K] in (-1, 1)."""
        if self.as_released:
            return (probabilities * self.values / (1 + delta).clamp_min(MIN_DENOMINATOR)).sum(dim=1)
        return (probabilities * (self.values + self.widths * delta)).sum(dim=1)
