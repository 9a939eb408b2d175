"""Networks of the compared implementations: the bare image tower, plain CLIP zero-shot, and a small MobileNet, with random weights."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..export.frozen import Frozen
from ..train.network import Method, NumCLIP
from ..train.prompts import Prompt
from ..train.tasks_file import load_task
from ..train.towers import build_towers, input_side

CONTEXT_TOKENS, CLIP_CONTEXT = 5, 77


class Tower(nn.Module):
    """The image tower alone, with the same input pixels as the model file."""

    gain: Tensor
    bias: Tensor

    def __init__(self, frozen: Frozen) -> None:
        super().__init__()
        self.image_tower = frozen.image_tower
        self.register_buffer("gain", frozen.gain)
        self.register_buffer("bias", frozen.bias)

    def forward(self, crops: Tensor) -> Tensor:
        """uint8 [N, S, S, 3] RGB to features [N, D]."""
        return self.image_tower(crops.permute(0, 3, 1, 2).float() * self.gain + self.bias)


class ZeroShot(nn.Module):
    """Plain CLIP: cosine of image and K sentences of 77 tokens, softmax, expectation over the bin centers."""

    sentences: Tensor
    end: Tensor
    centers: Tensor

    def __init__(self, network: NumCLIP, cached: bool) -> None:
        super().__init__()
        self.tower, self.text_tower = Tower(Frozen(network)), network.text_tower
        bins, width = network.task.spec.num_bins, network.prompt.words.shape[1]
        self.register_buffer("sentences", torch.randn(bins, CLIP_CONTEXT, width))
        self.register_buffer("end", torch.full((bins,), CONTEXT_TOKENS + 4))
        self.register_buffer("centers", torch.tensor(network.task.spec.bin_centers))
        self.scale = network.logit_scale.detach().exp()
        self.texts = self.encode() if cached else None

    def encode(self) -> Tensor:
        """[K, D] L2-normalised."""
        with torch.no_grad():
            return functional.normalize(self.text_tower(self.sentences, self.end), dim=1)

    def forward(self, crops: Tensor) -> Tensor:
        """uint8 [N, S, S, 3] RGB to ages [N]."""
        texts = self.encode() if self.texts is None else self.texts
        images = functional.normalize(self.tower(crops), dim=1)
        return torch.softmax(self.scale * images @ texts.T, dim=1) @ self.centers


class MobileNet(nn.Module):
    """MobileNetV1 at width 0.25 with three outputs, on uint8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        widths = [8, 16, 32, 32, 64, 64, *[128] * 6, 256, 256]
        halved = (2, 4, 6, 12)  # the layers with stride 2, besides the first
        layers = [_conv(3, widths[0], 3, 2)]
        for i, (before, after) in enumerate(pairwise(widths), 1):
            layers += [_conv(before, before, 3, 2 if i in halved else 1, groups=before), _conv(before, after, 1, 1)]
        self.layers, self.answer = nn.Sequential(*layers), nn.Linear(widths[-1], 3)

    def forward(self, crops: Tensor) -> Tensor:
        """uint8 [N, S, S, 3] RGB to [N, 3]."""
        return self.answer(self.layers(crops.permute(0, 3, 1, 2).float() / 127.5 - 1).mean((2, 3)))


def _conv(before: int, after: int, side: int, stride: int, groups: int = 1) -> nn.Sequential:
    """A convolution with its batch norm folded in, and ReLU."""
    return nn.Sequential(nn.Conv2d(before, after, side, stride, side // 2, groups=groups), nn.ReLU())


@cache
def random_network(tower: str) -> NumCLIP:
    """A NumCLIP model for ages with random weights."""
    torch.manual_seed(0)
    task, side = load_task("age"), input_side(tower)
    towers = build_towers(tower, None, torch.zeros(1, side, side, 3, dtype=torch.uint8))
    width = towers.token_embedding.weight.shape[1]
    return NumCLIP(task, towers, Prompt(CLIP_CONTEXT, [1] * task.spec.num_bins, CONTEXT_TOKENS, width), Method()).eval()
