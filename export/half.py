"""The typed mixed-precision form of a frozen network: a trunk in half with islands of float32.

Convolutions and matrix products of the image tower compute in float16; norms, softmax, the L2 norm and the head (adapter,
text bins, refinement) in float32; so does the first layer, because a pixel's 256 steps leave half no room for their normalised
form. Every change of type is a cast in the module, so the exported graph says each tensor's
type and no runtime has to guess: it builds on TensorRT 10 (strongly typed) and 11, and on ONNX Runtime. Layers that
overflow in half can be kept in float32 (`wide`): what they put out stays float32 until the next layer casts it.
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
    """A product in the type of its weights, whatever comes in."""

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    @property
    def weight(self) -> Tensor:
        """The layer's own: some towers look at its type."""
        return self.layer.weight

    def forward(self, x: Tensor) -> Tensor:
        """Floats of any width in; the weights' type out."""
        return self.layer(x.to(self.layer.weight.dtype))


class Island(nn.Module):
    """A norm in float32; what comes out has the type of what came in."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Float16 or float32, same out."""
        return self.norm(x.float()).to(x.dtype)


def product_layers(frozen: Frozen) -> list[str]:
    """The names of the image tower's convolutions and matrix products that can be half: all but the one that reads pixels."""
    return [name for name, module in frozen.image_tower.named_modules() if isinstance(module, PRODUCTS)][1:]


def half_network(frozen: Frozen, wide: Collection[str] = ()) -> Frozen:
    """A copy in mixed precision, with the layers named in `wide` kept in float32."""
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
    """The name of the first layer of a half network that puts out NaN or Inf for crops uint8 [N, S, S, 3]; None if none."""
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
