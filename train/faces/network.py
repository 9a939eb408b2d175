"""The face finder's network: a picture in, one map of raw numbers per stride out.

A stem that reads patches of 4 x 4 px, depthwise-separable blocks down to stride 32, a top-down path, and one small head per stride
(8, 16, 32). Each cell of a map answers fifteen numbers: a score, a box and five landmarks, in the order of `OUTPUTS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
OUTPUTS = 15  # per cell: score, dx, dy, log w, log h, five landmarks (x, y)


@dataclass(frozen=True)
class FacesShape:
    """How wide and how deep the network is."""

    channels: tuple[int, int, int, int] = (32, 64, 128, 128)  # at strides 4, 8, 16 and 32
    blocks: tuple[int, int, int, int] = (0, 1, 2, 2)  # further blocks at strides 4, 8, 16 and 32
    necks: tuple[int, int, int] = (48, 64, 128)  # what the heads of strides 8, 16 and 32 read
    heads: tuple[int, int, int] = (32, 64, 64)


class Layer(nn.Module):
    """A convolution with its batch norm, and a ReLU unless told otherwise."""

    def __init__(self, inputs: int, outputs: int, side: int = 1, stride: int = 1, *, relu: bool = True):
        super().__init__()
        around = 0 if side == stride else side // 2
        self.conv = nn.Conv2d(inputs, outputs, side, stride, around, bias=False)
        self.norm = nn.BatchNorm2d(outputs, momentum=0.03)
        self.relu = relu

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """[N, C, H, W] to [N, C', H / stride, W / stride]; `added` comes in before the ReLU."""
        x = self.norm(self.conv(x))
        if added is not None:
            x = x + added
        return functional.relu(x, inplace=True) if self.relu else x

    def fused(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that does the same as convolution and norm."""
        variance, gain, offset = self.norm.running_var, self.norm.weight, self.norm.bias
        assert variance is not None and self.norm.running_mean is not None
        scale = gain / torch.sqrt(variance + self.norm.eps)  # [C']
        return self.conv.weight * scale[:, None, None, None], offset - self.norm.running_mean * scale


class Block(nn.Module):
    """Depthwise, then pointwise with the norm; adds its input where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, side: int = 3):
        super().__init__()
        self.spatial = nn.Conv2d(inputs, inputs, side, stride, side // 2, groups=inputs)
        self.mix = Layer(inputs, outputs)
        self.adds = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H / stride, W / stride]."""
        return self.mix(self.spatial(x), x if self.adds else None)


class FacesNetwork(nn.Module):
    """Float [N, 3, H, W] BGR, 0 to 255, to three maps [N, 15, H' / stride, W' / stride].

    H' and W' are H and W up to the next multiple of 32, black at the right and below.
    """

    def __init__(self, shape: FacesShape = FacesShape()):
        super().__init__()
        self.shape = shape
        c, necks, heads = shape.channels, shape.necks, shape.heads
        stages = [nn.Sequential(Layer(3, c[0], 4, 4), *[Block(c[0], c[0]) for _ in range(shape.blocks[0])])]
        for (before, after), number, side in zip(pairwise(c), shape.blocks[1:], (3, 3, 5), strict=True):
            more = [Block(after, after, side=side) for _ in range(number)]
            stages.append(nn.Sequential(Block(before, after, 2, side), *more))
        self.stages = nn.ModuleList(stages)
        self.lateral = nn.ModuleList(
            [Layer(width, neck, relu=False) for width, neck in zip(c[1:3], necks, strict=False)]
        )
        self.down = nn.ModuleList([Layer(above, neck, relu=False) for neck, above in pairwise(necks)])
        self.heads = nn.ModuleList([Block(neck, head) for neck, head in zip(necks, heads, strict=True)])
        outputs = [nn.Conv2d(head, OUTPUTS, 1) for head in heads]
        self.outputs = nn.ModuleList(outputs)
        for output in outputs:
            assert output.bias is not None
            nn.init.normal_(output.weight, std=0.01)
            nn.init.zeros_(output.bias)
            output.bias.data[0] = -4.6  # a score of 0.01: most cells hold no face

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """The maps of strides 8, 16 and 32."""
        height, width = pictures.shape[2:]
        x = functional.pad(pictures * (1 / 255), (0, -width % STRIDES[-1], 0, -height % STRIDES[-1]))
        x = self.stages[0](x)
        levels: list[Tensor] = []
        for stage in self.stages[1:]:
            x = stage(x)
            levels.append(x)
        necks = [levels[2]]
        for i in (1, 0):
            twice = functional.interpolate(self.down[i](necks[0]), scale_factor=2.0, mode="nearest")
            necks.insert(0, self.lateral[i](levels[i], twice))
        return [output(head(neck)) for output, head, neck in zip(self.outputs, self.heads, necks, strict=True)]
