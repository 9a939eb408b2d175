"""The frozen graph: image tower, adapter, constant text bins, refinement. It has no text tower."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..train.losses import MAX_LOGIT_SCALE
from ..train.network import NumCLIP
from .attention import written_for_export

TINY = 1e-12  # smallest norm of the features, as in torch's normalize


class Frozen(nn.Module):
    """crops uint8 [N, S, S, 3] RGB -> value [N], probabilities [N, K], embedding [N, D].

    The text bins are computed once, scaled by exp(logit_scale), and kept as one constant [D, K]: the logits are a matrix
    product with it.
    """

    def __init__(self, network: NumCLIP) -> None:
        super().__init__()
        network = copy.deepcopy(network).eval()
        self.image_tower = written_for_export(network.image_tower).eval()
        self.adapter, self.refinement = network.adapter, network.refinement
        self.offset = network.method.label_offset
        self.low, self.high = network.task.spec.low, network.task.spec.high
        self.sees_embedding = network.method.refinement_embedding
        with torch.no_grad():
            scale = network.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
            bins = (scale * network.text_bins()).T.contiguous()
        self.register_buffer("scaled_bins", bins)  # [D, K]
        self.register_buffer("gain", 1 / network.std)
        self.register_buffer("bias", -network.mean / network.std)

    scaled_bins: Tensor
    gain: Tensor
    bias: Tensor

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the model file's outputs; the head is float32 whatever the type of the tower (half.py)."""
        # The cast comes first: TensorRT accepts uint8 only as an input.
        pixels = crops.float().permute(0, 3, 1, 2) * self.gain + self.bias
        features = self.adapter(self.image_tower(pixels).float())
        embedding = features / features.norm(dim=1, keepdim=True).clamp_min(TINY)  # as normalize, without its Expand
        logits = embedding @ self.scaled_bins
        probabilities, value = self.refinement(logits, embedding if self.sees_embedding else None)
        return (value + self.offset).clamp(self.low, self.high), probabilities, embedding
