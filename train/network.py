"""NumCLIP as one module: image tower, text bins, adapter, logits, refinement (arXiv 2408.03574)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .losses import MAX_LOGIT_SCALE
from .method import Method
from .prompts import Prompt
from .records import TowersRecord
from .refinement import Expectation, Refinement
from .tasks_file import Task
from .towers import Towers


class Outputs(NamedTuple):
    """The network's outputs for N crops."""

    value: Tensor  # [N] in the task's unit, offset added back, not clipped
    probabilities: Tensor  # [N, K]
    embedding: Tensor  # [N, D] L2-normalised
    logits: Tensor  # [N, K]


class Adapter(nn.Module):
    """The residual adapter: ratio * relu(W2 relu(W1 v)) + (1 - ratio) * v, without biases."""

    def __init__(self, dim: int, hidden: int, ratio: float) -> None:
        super().__init__()
        self.down = nn.Linear(dim, hidden, bias=False)
        self.up = nn.Linear(hidden, dim, bias=False)
        self.ratio = ratio

    def forward(self, features: Tensor) -> Tensor:
        """Adapt embeddings [N, D]."""
        adapted = torch.relu(self.up(torch.relu(self.down(features))))
        return self.ratio * adapted + (1 - self.ratio) * features


class NumCLIP(nn.Module):
    """NumCLIP: crops uint8 [N, S, S, 3] RGB -> Outputs. In training the text tower computes the text bins at every step."""

    mean: Tensor
    std: Tensor

    def __init__(self, task: Task, towers: Towers, prompt: Prompt, method: Method) -> None:
        super().__init__()
        self.task, self.method = task, method
        self.record: TowersRecord = towers.record
        dim = towers.text.text_projection.shape[1]
        self.image_tower, self.text_tower, self.prompt = towers.image, towers.text, prompt
        hidden = method.adapter_hidden
        self.adapter = Adapter(dim, hidden, method.adapter_ratio) if hidden else nn.Identity()
        self.logit_scale = nn.Parameter(torch.tensor(towers.logit_scale))
        edges = task.spec.bin_edges
        self.refinement = (
            Refinement(
                edges,
                as_released=method.refinement_as_released,
                hidden=method.refinement_hidden,
                embedding_dim=dim if method.refinement_embedding else 0,
                released_values=task.released.values,
            )
            if method.refinement_hidden
            else Expectation(edges)
        )
        self.register_buffer("mean", 255 * torch.tensor(self.record.image_mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(self.record.image_std).view(1, 3, 1, 1), persistent=False)

    def text_bins(self) -> Tensor:
        """Return the L2-normalised embedding of each bin's sentence, [K, D]."""
        return functional.normalize(self.text_tower(*self.prompt()), dim=1)

    def embed(self, crops: Tensor) -> Tensor:
        """Return the L2-normalised image embedding [N, D] of crops uint8 [N, S, S, 3] RGB.

        When only a head is trained, the input is features of a frozen trunk, float [N, F], and `image_tower` is the part after it.
        """
        if crops.ndim == 4:
            crops = (crops.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std
        return functional.normalize(self.adapter(self.image_tower(crops)), dim=1)

    def read(self, embedding: Tensor, text_bins: Tensor) -> Outputs:
        """Return the outputs for image embeddings [N, D] and text bins [K, D]."""
        # In float32: logit_scale multiplies a rounding error of the cosine by up to 100.
        with torch.autocast(embedding.device.type, enabled=False):
            embedding = embedding.float()
            scale = self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
            logits = scale * embedding @ text_bins.float().T  # [N, K]
            probabilities, value = self.refinement(logits, embedding if self.method.refinement_embedding else None)
        return Outputs(value + self.method.label_offset, probabilities, embedding, logits)

    def forward(self, crops: Tensor) -> Outputs:
        """Return the outputs for crops uint8 [N, S, S, 3] RGB, or for features as in `embed`."""
        return self.read(self.embed(crops), self.text_bins())
