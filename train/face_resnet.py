"""dlib's face recognition network as an image tower: 14 residual blocks of plain 3x3 convolutions, 5.6 million weights; or 21.

Its published weights (CC0, the file `dlib_face_recognition_resnet_model_v1.dat`) learned to tell 7,485 persons apart on
3 million faces; a face tower that starts there begins with eyes for faces, not for ImageNet's things.
"""

from __future__ import annotations

from . import torchvision_gap  # noqa: F401  # pyright: ignore[reportUnusedImport]  (before timm)

from timm.models import register_model  # isort: skip
import torch
from torch import Tensor, nn
from torch.nn import functional

STAGES = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))  # channels and blocks; all but the first halve the picture


class Block(nn.Module):
    """Two 3x3 convolutions beside a way past them; where the picture halves, that way is averaged, not learned."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        padding = 1 if stride == 1 else 0
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H', W']; an even side to be halved is made odd by a row of zeros."""
        if self.stride == 2:
            x = functional.pad(x, (0, 1 - int(x.shape[3]) % 2, 0, 1 - int(x.shape[2]) % 2))
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.stride == 2:
            x = functional.avg_pool2d(x, 2)
        if self.added:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.added))
        return torch.relu(x + y)


class FaceResNet(nn.Module):
    """The trunk as open_clip's adapter for timm wants it: features [N, 256] of pictures [N, 3, S, S]."""

    def __init__(self, deeper: tuple[int, ...] = ()) -> None:
        """deeper: blocks that follow the last ones of each stage and begin as nothing: the trunk starts as dlib's network."""
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
        """There is none to take off."""

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] normalised to [N, 256]."""
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
    """timm's entry."""
    return FaceResNet()


@register_model
def face_resnet_deeper(pretrained: bool = False, **kwargs: object) -> nn.Module:
    """timm's entry: 21 blocks, 12.1 million weights."""
    return FaceResNet((0, 0, 2, 3, 2))
