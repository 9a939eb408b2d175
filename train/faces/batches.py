"""Batches: canvases with the targets of every cell, made in worker processes while the network trains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from .canvases import Canvas, Stock, compose
from .network import STRIDES
from .pictures import Floats
from .spoil import spoil
from .teacher import CellTargets, Teacher, cell_corners, overlaps

SURE = 0.95  # the score that a labelled face should get
SURE_FROM_PX = 20.0  # a labelled face smaller than this is asked for less surely
POSITIVE = 0.2  # cells from this target score on learn a box and landmarks


@dataclass(frozen=True)
class Batch:
    """B canvases; the P cells that hold a face are listed, with their cell number b * M + m."""

    pictures: Tensor  # uint8 [B, S, S, 3]
    scores: Tensor  # float32 [B, M]
    cells: Tensor  # int64 [P]
    boxes_xyxy: Tensor  # float32 [P, 4] px
    landmarks: Tensor  # float32 [P, 5, 2] px
    has_landmarks: Tensor  # float32 [P]


def with_labels(targets: CellTargets, canvas: Canvas) -> CellTargets:
    """The teacher's targets, corrected by what is known: labelled faces are faces, empty pictures are empty."""
    if canvas.empty:
        targets.scores[:] = 0
        return targets
    side = canvas.picture.shape[0]
    cells = cell_corners(side, side)
    for box, points in zip(canvas.boxes_xyxy, canvas.landmarks, strict=True):
        size = float(np.sqrt(np.prod(box[2:] - box[:2])))
        sure = SURE * min(1.0, max(0.0, size - 8) / (SURE_FROM_PX - 8))
        seen = np.flatnonzero(targets.scores > 0.1)
        if len(seen):
            seen = seen[overlaps(targets.boxes_xyxy[seen], box[None])[:, 0] > 0.45]
        if len(seen) and targets.scores[seen].max() > 0.25:
            best = float(targets.scores[seen].max())
            if best < sure:
                targets.scores[seen] *= sure / best
            continue
        if sure <= 0:
            continue
        _add_face(targets, cells, box, points, size, sure)
    return targets


def _add_face(targets: CellTargets, cells: Floats, box: Floats, points: Floats, size: float, sure: float) -> None:
    """Give a face that the teacher does not see to the cells about its middle."""
    center = (box[:2] + box[2:]) / 2
    levels = [s for s in STRIDES if 1.5 <= size / s <= 6] or [STRIDES[0] if size < 12 else STRIDES[-1]]
    for stride in levels:
        off = np.abs(cells[:, :2] - center).max(axis=1)
        near = np.flatnonzero((cells[:, 2] == stride) & (off <= max(0.51 * stride, 0.14 * size)))
        share = 1 - 0.5 * off[near] / max(0.5 * size, 1e-3)
        better = sure * share > targets.scores[near]
        near, share = near[better], share[better]
        targets.scores[near] = sure * share
        targets.boxes_xyxy[near] = box
        known = not np.isnan(points).any()
        targets.landmarks[near] = points if known else 0
        targets.has_landmarks[near] = float(known)


class Canvases(IterableDataset[Batch]):
    """An endless stream of batches; each worker has its own numbers."""

    def __init__(self, stock: Stock, teacher: Path, plan: tuple[tuple[int, int], ...], seed: int):
        """plan: (side px, pictures) of one batch after another, over and over."""
        self.stock, self.teacher, self.plan, self.seed = stock, teacher, plan, seed

    def __iter__(self) -> Iterator[Batch]:
        """Batches without end."""
        info = torch.utils.data.get_worker_info()
        if info is not None:  # a process of its own
            cv2.setNumThreads(1)
            torch.set_num_threads(1)
        worker, step = (0, 1) if info is None else (info.id, info.num_workers)
        rng = np.random.default_rng((self.seed, worker))
        source = Source(rng, self.stock, Teacher(self.teacher))
        number = worker
        while True:
            side, count = self.plan[number % len(self.plan)]
            yield make_batch(source, side, count)
            number += step


class Source:
    """Canvases with their targets; each is given out about three times, because spoiling it anew is cheap."""

    FRESH, KEPT = 0.34, 384  # the share of new ones; how many of a side are kept

    def __init__(self, rng: np.random.Generator, stock: Stock, teacher: Teacher):
        self.rng, self._stock, self._teacher = rng, stock, teacher
        self._kept: dict[int, list[tuple[Canvas, CellTargets]]] = defaultdict(list)

    def draw(self, side: int) -> tuple[Canvas, CellTargets]:
        """A canvas of this side."""
        kept = self._kept[side]
        if len(kept) == self.KEPT and self.rng.random() > self.FRESH:
            return kept[self.rng.integers(self.KEPT)]
        canvas = compose(self.rng, self._stock, side)
        made = canvas, with_labels(self._teacher.targets(canvas.picture), canvas)
        if len(kept) < self.KEPT:
            kept.append(made)
        else:
            kept[self.rng.integers(self.KEPT)] = made
        return made


def make_batch(source: Source, side: int, count: int) -> Batch:
    """`count` canvases of one side: the teacher saw them clean, the network sees them spoilt."""
    pictures, scores, cells, boxes, landmarks, known = [], [], [], [], [], []
    for i in range(count):
        canvas, targets = source.draw(side)
        pictures.append(spoil(source.rng, canvas.picture, canvas.boxes_xyxy, canvas.landmarks))
        scores.append(targets.scores)
        positive = np.flatnonzero(targets.scores > POSITIVE)
        cells.append(positive + i * len(targets.scores))
        boxes.append(targets.boxes_xyxy[positive])
        landmarks.append(targets.landmarks[positive])
        known.append(targets.has_landmarks[positive])
    return Batch(
        torch.from_numpy(np.stack(pictures)),
        torch.from_numpy(np.stack(scores).astype(np.float32)),
        torch.from_numpy(np.concatenate(cells)),
        torch.from_numpy(np.concatenate(boxes).astype(np.float32)),
        torch.from_numpy(np.concatenate(landmarks).astype(np.float32)),
        torch.from_numpy(np.concatenate(known).astype(np.float32)),
    )
