"""Rewrite the image tower for export: fold batch norms; replace attention, pooling and projection by plain layers.

torch's MultiheadAttention exports to many nodes, and in float16 to a pattern that crashes ONNX Runtime when it opens the file.
These modules have the same weights and compute the same numbers; softmax is always in float32.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..errors import ModelError


class Attention(nn.Module):
    """Self-attention that replaces nn.MultiheadAttention (batch first, one projection for q, k and v)."""

    def __init__(self, old: nn.MultiheadAttention) -> None:
        super().__init__()
        if not old.batch_first or old.in_proj_weight is None:
            raise ModelError(
                "expected attention with batch_first and one in_proj, got another form, which cannot be exported; train with "
                "another --model"
            )
        width = old.embed_dim
        self.heads = old.num_heads
        self.in_proj = nn.Linear(width, 3 * width, bias=old.in_proj_bias is not None)
        self.out_proj = nn.Linear(width, width, bias=old.out_proj.bias is not None)
        with torch.no_grad():
            self.in_proj.weight.copy_(old.in_proj_weight)
            self.out_proj.weight.copy_(old.out_proj.weight)
            if old.in_proj_bias is not None:
                self.in_proj.bias.copy_(old.in_proj_bias)
                self.out_proj.bias.copy_(old.out_proj.bias)

    def forward(
        self,
        x: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Attend over x, [N, L, W], which is also key and value. Returns ([N, L, W], None), as nn.MultiheadAttention does."""
        assert attn_mask is None and not need_weights
        n, length, width = x.shape
        split = self.in_proj(x).reshape(n, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)  # each [N, heads, L, head width]
        return self.out_proj(attend(q, k, v).transpose(1, 2).reshape(n, length, width)), None


class PooledAttention(nn.Module):
    """CLIP ResNet's attention pooling: the mean is the only query, over all positions."""

    def __init__(self, old: Any) -> None:
        super().__init__()
        self.positional_embedding = old.positional_embedding  # [HW + 1, C]
        self.q_proj, self.k_proj, self.v_proj, self.c_proj = old.q_proj, old.k_proj, old.v_proj, old.c_proj
        self.heads = old.num_heads

    def forward(self, x: Tensor) -> Tensor:
        """Pool [N, C, H, W] to [N, D]."""
        n, channels = x.shape[:2]
        x = x.flatten(2).transpose(1, 2)  # [N, HW, C]
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)
        x = x + self.positional_embedding.to(x.dtype)
        parts = self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x)
        q, k, v = (t.reshape(n, -1, self.heads, channels // self.heads).transpose(1, 2) for t in parts)
        return self.c_proj(attend(q, k, v).transpose(1, 2).reshape(n, channels))


class SpatialMean(nn.Module):
    """Mean over positions; replaces adaptive pooling to 1 x 1, which exports to a dozen index nodes."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool [N, C, H, W] to [N, C, 1, 1]."""
        return x.mean(dim=(2, 3), keepdim=True)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v for [N, heads, L, d]; softmax is in float32 even in half precision."""
    if v.dtype == torch.float32:
        return functional.scaled_dot_product_attention(q, k, v)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return torch.softmax(scores.float(), dim=-1).to(v.dtype) @ v


def written_for_export(tower: nn.Module) -> nn.Module:
    """Return the tower with these modules and with each batch norm folded into the preceding convolution; changes `tower` too.

    timm's norms keep their activation. Each convolution keeps the factor of its output channels as `fold_factor`
    [out channels].
    """
    for parent in list(tower.modules()):
        children = list(parent.named_children())
        for (name, layer), (norm_name, norm) in pairwise(children):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                assert norm.running_var is not None
                gain = norm.weight if norm.affine else torch.ones_like(norm.running_var)
                folded = fuse_conv_bn_eval(layer, norm)
                folded.fold_factor = (gain * torch.rsqrt(norm.running_var + norm.eps)).detach()
                setattr(parent, name, folded)
                after = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]
                setattr(parent, norm_name, nn.Sequential(*after))
        for name, child in children:
            if isinstance(child, nn.MultiheadAttention):
                setattr(parent, name, Attention(child))
            elif type(child).__name__ == "AttentionPool2d":
                setattr(parent, name, PooledAttention(child))
            elif isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
                setattr(parent, name, SpatialMean())
    projection = getattr(tower, "proj", None)
    if isinstance(projection, nn.Parameter):
        layer = nn.Linear(*projection.shape, bias=False)
        with torch.no_grad():
            layer.weight.copy_(projection.T)
        tower.register_parameter("proj", None)
        return nn.Sequential(OrderedDict(tower=tower, proj=layer))
    return tower
