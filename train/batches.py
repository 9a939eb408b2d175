"""Training batches that are the same in every run: epoch and place decide the order and each crop's randomness."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .augment import Augmentation, augment

AHEAD = 3  # batches that each process prepares while one is trained on


@dataclass(frozen=True, eq=False)
class TrainingFaces:
    """Crops with margin, several data sets in a row."""

    parts: tuple[Any, ...]  # each uint8 [n, M, M, 3] RGB, memory-mapped
    labels: npt.NDArray[np.float64]  # [N]
    inner: int  # px of the contract's square in the middle of each crop

    def __len__(self) -> int:
        return len(self.labels)

    def crop(self, index: int) -> npt.NDArray[np.uint8]:
        """[M, M, 3] the crop at a place in the row."""
        for part in self.parts:
            if index < len(part):
                return np.asarray(part[index])
            index -= len(part)
        raise IndexError("expected an index below the number of faces")


class Epoch(Dataset[tuple[Tensor, Tensor]]):
    """One epoch's batches by place: crops uint8 [B, side, side, 3] and labels float32 [B]."""

    def __init__(
        self,
        faces: TrainingFaces,
        epoch: int,
        batch: int,
        side: int,
        seed: int,
        how: Augmentation,
        share: tuple[int, int],
    ) -> None:
        order = np.random.default_rng([seed, epoch]).permutation(len(faces))
        whole = len(order) - len(order) % batch
        self.rows = [order[start : start + batch][share[0] :: share[1]] for start in range(0, whole, batch)]
        self.faces, self.epoch, self.side, self.seed, self.how = faces, epoch, side, seed, how

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        row = self.rows[place]
        crops = [self._crop(int(i)) for i in row]
        return torch.from_numpy(np.stack(crops)), torch.from_numpy(self.faces.labels[row].astype(np.float32))

    def _crop(self, index: int) -> npt.NDArray[np.uint8]:
        random = np.random.default_rng([self.seed, self.epoch, index])
        return augment(self.faces.crop(index), self.side, self.faces.inner, random, self.how)


def batches(
    faces: TrainingFaces,
    epoch: int,
    batch: int,
    side: int,
    seed: int,
    how: Augmentation,
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: crops uint8 [B, side, side, 3] and labels float32 [B]; the last, smaller batch is left out.

    share: (i, n) gives every n-th crop of each batch, from its i-th on, to one of n processes. On Linux as many processes
    prepare batches as there are CPUs beside the one that trains; elsewhere, where a process starts anew instead of as a
    copy that shares the faces, the training prepares its own.
    """
    workers = max(1, len(os.sched_getaffinity(0)) - 1) if sys.platform == "linux" else 0
    loader = DataLoader(
        Epoch(faces, epoch, batch, side, seed, how, share),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_one_thread,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # its seed moves no other random number
    )
    yield from loader


def _one_thread(_: int) -> None:
    """OpenCV's threads do not live on in a copied process."""
    cv2.setNumThreads(0)
