"""The finder's loss: scores against the teacher's, boxes and landmarks where there is a face."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .batches import Batch
from .network import OUTPUTS, STRIDES

BOX_WEIGHT, LANDMARK_WEIGHT = 1.5, 10.0


def flat(maps: list[Tensor]) -> Tensor:
    """Three maps [B, 15, h, w] as one [B, M, 15]."""
    return torch.cat([m.flatten(2) for m in maps], dim=2).transpose(1, 2)


def corners(maps: list[Tensor]) -> Tensor:
    """[M, 3] x, y and stride of each cell."""
    cells: list[Tensor] = []
    for level, stride in zip(maps, STRIDES, strict=True):
        h, w = level.shape[2:]
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        cells.append(torch.stack([x * stride, y * stride, torch.full_like(x, stride)], dim=-1).reshape(-1, 3))
    return torch.cat(cells).float().to(maps[0].device)


def finder_loss(maps: list[Tensor], batch: Batch) -> dict[str, Tensor]:
    """`score`, `box`, `landmarks` and their weighted sum `loss`."""
    raw = flat(maps)  # [B, M, 15]
    logits, target = raw[..., 0], batch.scores
    away = (torch.sigmoid(logits.detach()) - target).abs() ** 1.5
    total = target.sum().clamp(min=1.0)
    score = (functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * away).sum() / total

    cell = corners(maps).repeat(len(raw), 1)[batch.cells]  # [P, 3]
    rows = raw.reshape(-1, OUTPUTS)[batch.cells]  # [P, 15]
    weight = target.reshape(-1)[batch.cells]  # [P]
    stride = cell[:, 2:]
    center = cell[:, :2] + rows[:, 1:3] * stride
    half = torch.exp(rows[:, 3:5].clamp(max=6.0)) * stride / 2
    found = torch.cat([center - half, center + half], dim=1)
    side = (batch.boxes_xyxy[:, 2:] - batch.boxes_xyxy[:, :2]).clamp(min=4).prod(dim=1).sqrt()  # [P] px
    edges = (found - batch.boxes_xyxy).abs().mean(dim=1) / side
    box = ((1 - generalised_overlap(found, batch.boxes_xyxy) + 2 * edges) * weight).sum() / weight.sum().clamp(min=1.0)
    points = cell[:, None, :2] + rows[:, 5:].reshape(-1, 5, 2) * stride[:, None]
    error = (points - batch.landmarks).abs().mean(dim=(1, 2)) / side
    known = weight * batch.has_landmarks
    landmarks = (error * known).sum() / known.sum().clamp(min=1.0)
    return {
        "loss": score + BOX_WEIGHT * box + LANDMARK_WEIGHT * landmarks,
        "score": score,
        "box": box,
        "landmarks": landmarks,
    }


def generalised_overlap(a: Tensor, b: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al., CVPR 2019) of P pairs of boxes [P, 4] xyxy."""
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    both = (a[:, 2:] - a[:, :2]).prod(dim=1) + (b[:, 2:] - b[:, :2]).prod(dim=1) - shared
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(dim=1)
    return shared / both.clamp(min=1e-6) - (hull - both) / hull.clamp(min=1e-6)
