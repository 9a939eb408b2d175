"""dlib's face recognition network as an image tower: 14 residual blocks of 3x3 convolutions, 5.6 million weights (or 21 blocks).

Its published weights (CC0, the file `dlib_face_recognition_resnet_model_v1.dat`) were trained to recognise 7,485 people on
3 million faces, so a tower that starts from them already has features for faces.
"""

from __future__ import annotations

from . import torchvision_gap  # noqa: F401  # pyright: ignore[reportUnusedImport]  (before timm)

from timm.models import register_model  # isort: skip
import torch
from torch import Tensor, nn
from torch.nn import functional

STAGES = (
    (32, 3),
    (64, 4),
    (128, 3),
    (256, 3),
    (256, 1),
)  # channels and blocks per stage; all stages but the first halve the picture


class Block(nn.Module):
    """A residual block of two 3x3 convolutions; where the picture halves, the shortcut is average pooling."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        padding = 1 if stride == 1 else 0
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H', W']; before halving, an even side is padded to odd with zeros."""
        if self.stride == 2:
            x = functional.pad(x, (0, 1 - int(x.shape[3]) % 2, 0, 1 - int(x.shape[2]) % 2))
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.stride == 2:
            x = functional.avg_pool2d(x, 2)
        if self.added:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.added))
        return torch.relu(x + y)


class FaceResNet(nn.Module):
    """The trunk in the form that open_clip's timm adapter expects: features [N, 256] of pictures [N, 3, S, S]."""

    def __init__(self, deeper: tuple[int, ...] = ()) -> None:
        """deeper: extra blocks at the end of each stage, initialised to the identity, so the trunk starts as dlib's network."""
        super().__init__()
        self.default_cfg: dict[str, object] = {}
        self.num_features = STAGES[-1][0]
        self.conv = nn.Conv2d(3, STAGES[0][0], 7, 2, bias=False)
        self.bn = nn.BatchNorm2d(STAGES[0][0])
        blocks: list[Block] = []
        inputs = STAGES[0][0]
        for stage, (channels, count) in enumerate(STAGES):
            for place in range(count):
                blocks.append(Block(inputs, channels, 2 if stage and not place else 1))
                inputs = channels
        self.blocks = nn.Sequential(*blocks)
        self.deeper = nn.ModuleList(
            nn.Sequential(*(Block(channels, channels, 1) for _ in range(count)))
            for (channels, _), count in zip(STAGES, deeper, strict=False)
        )
        for stage in self.deeper:
            for block in stage.children():
                nn.init.zeros_(block.get_submodule("bn2").get_parameter("weight"))

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        """Do nothing: the trunk has no classifier."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Map normalised pictures [N, 3, S, S] to features [N, 256]."""
        x = functional.max_pool2d(torch.relu(self.bn(self.conv(pixels))), 3, 2)
        at = 0
        for stage, (_, count) in enumerate(STAGES):
            for block in list(self.blocks.children())[at : at + count]:
                x = block(x)
            at += count
            if stage < len(self.deeper):
                x = self.deeper[stage](x)
        return x.mean((2, 3))


@register_model
def face_resnet(pretrained: bool = False, **kwargs: object) -> nn.Module:
    """Entry point for timm."""
    return FaceResNet()


@register_model
def face_resnet_deeper(pretrained: bool = False, **kwargs: object) -> nn.Module:
    """Entry point for timm: 21 blocks, 12.1 million weights."""
    return FaceResNet((0, 0, 2, 3, 2))
