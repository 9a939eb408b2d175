"""The frozen graph: image tower, adapter, constant text bins, refinement. The text tower and its words are gone."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..train.losses import MAX_LOGIT_SCALE
from ..train.network import NumCLIP
from .attention import written_for_export

TINY = 1e-12  # the shortest length of features, as in torch's normalize


class Frozen(nn.Module):
    """crops uint8 [N, S, S, 3] RGB -> value [N], probabilities [N, K], embedding [N, D].

    The text bins are computed once, scaled by exp(logit_scale), and kept as one constant [D, K]: the logits are a matrix
    product with it.
    """

    def __init__(self, network: NumCLIP) -> None:
        super().__init__()
        network = copy.deepcopy(network).eval()
        self.image_tower = written_for_export(fold_norms(network.image_tower)).eval()
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
        """The contract of the model file; the head is float32 whatever the tower is (half.py)."""
        # The cast comes first: TensorRT takes uint8 as an input and nowhere else.
        pixels = crops.float().permute(0, 3, 1, 2) * self.gain + self.bias
        features = self.adapter(self.image_tower(pixels).float())
        embedding = features / features.norm(dim=1, keepdim=True).clamp_min(TINY)  # as normalize, without its Expand
        logits = embedding @ self.scaled_bins
        probabilities, value = self.refinement(logits, embedding if self.sees_embedding else None)
        return (value + self.offset).clamp(self.low, self.high), probabilities, embedding


def fold_norms(tower: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution before it (eval mode); timm's norms keep their activation.

    What each output channel was multiplied by stays with the convolution as `fold_factor` [out channels].
    """
    for parent in list(tower.modules()):
        children = list(parent.named_children())
        for (name, layer), (norm_name, norm) in pairwise(children):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                folded: Any = fuse_conv_bn_eval(layer, norm)
                variance: Any = norm.running_var
                gain: Any = norm.weight if norm.affine else torch.ones_like(variance)
                folded.fold_factor = (gain * torch.rsqrt(variance + norm.eps)).detach()
                setattr(parent, name, folded)
                after = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]
                setattr(parent, norm_name, nn.Sequential(*after))
    return tower
