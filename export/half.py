"""Mixed precision for a frozen network: a float16 trunk with parts in float32.

Convolutions and matrix products of the image tower compute in float16; norms, softmax, the L2 norm and the head (adapter,
text bins, refinement) in float32; so does the first layer, because float16 is too coarse for normalised
pixels. Every change of type is an explicit cast, so each tensor of the exported graph has a defined
type: the graph builds with TensorRT 10 (strongly typed) and 11, and with ONNX Runtime. Layers that
overflow in float16 can be kept in float32 (`wide`); their output stays float32 until the next layer casts it.
"""

from __future__ import annotations

import copy
from collections.abc import Collection

import torch
from torch import Tensor, nn

from .frozen import Frozen

PRODUCTS = (nn.Linear, nn.Conv2d)
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)


class Typed(nn.Module):
    """A convolution or matrix product that computes in the type of its weights, whatever the input type."""

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    @property
    def weight(self) -> Tensor:
        """Return the layer's weight: some towers read its type."""
        return self.layer.weight

    def forward(self, x: Tensor) -> Tensor:
        """Cast the input to the weights' type and apply the layer."""
        return self.layer(x.to(self.layer.weight.dtype))


class Island(nn.Module):
    """A norm that computes in float32; its output has the type of its input."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Apply the norm in float32 and cast back to the input's type."""
        return self.norm(x.float()).to(x.dtype)


def product_layers(frozen: Frozen) -> list[str]:
    """Return the names of the image tower's layers that can be float16: all convolutions and products except the first layer."""
    return [name for name, module in frozen.image_tower.named_modules() if isinstance(module, PRODUCTS)][1:]


def half_network(frozen: Frozen, wide: Collection[str] = ()) -> Frozen:
    """Return a copy in mixed precision, with the layers in `wide` kept in float32."""
    narrow = set(product_layers(frozen)) - set(wide)
    frozen = copy.deepcopy(frozen)
    tower = frozen.image_tower
    for name, module in list(tower.named_modules()):
        if isinstance(module, PRODUCTS):
            _put(tower, name, Typed(module.half() if name in narrow else module))
        elif isinstance(module, NORMS):
            _put(tower, name, Island(module))
    return frozen


def first_not_finite(half: Frozen, crops: Tensor) -> str | None:
    """Return the name of the first layer whose output for crops uint8 [N, S, S, 3] has NaN or Inf; None if there is none."""
    found: list[str] = []

    def look(name: str) -> object:
        def hook(module: nn.Module, given: object, out: Tensor) -> None:
            if not found and not torch.isfinite(out).all():
                found.append(name)

        return hook

    layers = [(n, m) for n, m in half.image_tower.named_modules() if isinstance(m, Typed)]
    hooks = [module.register_forward_hook(look(name)) for name, module in layers]  # pyright: ignore[reportArgumentType]
    try:
        with torch.inference_mode():
            half(crops)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _put(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(root.get_submodule(parent) if parent else root, last, module)
