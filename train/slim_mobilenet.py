"""MobileNetV1 (Howard et al., arXiv:1704.04861) with narrow last blocks as an image tower: 640 channels instead of 1,024.

The last two of its 13 blocks hold half of MobileNetV1's weights. Cut to 640 channels, the tower is as large as MobileNetV2 and a
tenth cheaper than before. `narrowed` cuts the weights of a trained tower `small`, so that the training can start from them.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import torchvision_gap  # noqa: F401  # pyright: ignore[reportUnusedImport]  (before timm)

from timm.models import register_model  # isort: skip
import torch
from torch import Tensor, nn
from torch.nn import functional

STEM = 32
LAST = 640
STAGES = (
    (64, 1),
    (128, 2),
    (256, 2),
    (512, 6),
    (LAST, 2),
)  # channels and blocks; all stages but the first halve the picture
TRUNK = "image_tower.trunk."


class Block(nn.Module):
    """A 3x3 convolution per channel, then a 1x1 convolution over all channels, each with batch norm and ReLU6."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H / stride, W / stride]."""
        x = functional.relu6(self.bn1(self.conv_dw(x)))
        return functional.relu6(self.bn2(self.conv_pw(x)))


class SlimMobileNet(nn.Module):
    """The trunk in the form that open_clip's timm adapter expects: features [N, 640] of pictures [N, 3, S, S].

    The weights have the names of timm's `mobilenetv1_100`, which is the tower `small`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.default_cfg: dict[str, object] = {}
        self.num_features = LAST
        self.conv_stem = nn.Conv2d(3, STEM, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        stages: list[nn.Sequential] = []
        inputs = STEM
        for stage, (channels, count) in enumerate(STAGES):
            blocks: list[Block] = []
            for place in range(count):
                blocks.append(Block(inputs, channels, 2 if stage and not place else 1))
                inputs = channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        """Do nothing: the trunk has no classifier."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Map normalised pictures [N, 3, S, S] to features [N, 640]."""
        return self.blocks(functional.relu6(self.bn1(self.conv_stem(pixels)))).mean((2, 3))


@register_model
def slim_mobilenet(pretrained: bool = False, **kwargs: object) -> nn.Module:
    """Entry point for timm."""
    return SlimMobileNet()


def narrowed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cut the weights of a network whose tower is `small` to those of the tower `slim`.

    Of each of the last two blocks' outputs, the 640 channels stay that contribute most: the standard deviation of the channel,
    by its batch norm, times the norm of the weights that read it.
    """
    first, second, head = f"{TRUNK}blocks.4.0.", f"{TRUNK}blocks.4.1.", "image_tower.head.proj.weight"
    reads = state[f"{second}bn1.weight"].abs() * state[f"{second}conv_pw.weight"].flatten(1).norm(dim=0)
    inner = _strongest(_deviation(state, f"{first}bn2.") * reads)
    outer = _strongest(_deviation(state, f"{second}bn2.") * state[head].norm(dim=0))
    cut = dict(state)
    for name, value in state.items():
        if name.startswith((f"{first}conv_pw.", f"{first}bn2.", f"{second}conv_dw.", f"{second}bn1.")) and value.ndim:
            cut[name] = value[inner]
        elif name.startswith(f"{second}bn2.") and value.ndim:
            cut[name] = value[outer]
    cut[f"{second}conv_pw.weight"] = state[f"{second}conv_pw.weight"][outer][:, inner]
    cut[head] = state[head][:, outer]
    return cut


def _strongest(worth: Tensor) -> Tensor:
    """Return the places of the 640 largest, in order."""
    return worth.topk(LAST).indices.sort().values


def _deviation(state: Mapping[str, Tensor], norm: str) -> Tensor:
    """Return the standard deviation of each channel after a batch norm and ReLU, if the channel is normally distributed before it."""
    mean, scale = state[f"{norm}bias"].double(), state[f"{norm}weight"].double().abs().clamp(min=1e-6)
    ratio = mean / scale
    below = torch.special.ndtr(ratio)
    density = torch.exp(-(ratio**2) / 2) / (2 * torch.pi) ** 0.5
    first = mean * below + scale * density
    return ((mean**2 + scale**2) * below + mean * scale * density - first**2).clamp(min=0).sqrt()
