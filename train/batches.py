"""Training batches that are the same in every run: epoch and place decide the order and each crop's randomness."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .augment import Augmentation, augment

AHEAD = 3  # batches that each process prepares while one is trained on


class Rows(Protocol):
    """Crops uint8 [n, M, M, 3] RGB, memory-mapped or in memory."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, at: Any, /) -> npt.NDArray[np.uint8]: ...


@dataclass(frozen=True, eq=False)
class TrainingFaces:
    """Crops with margin, several data sets in a row."""

    parts: tuple[Rows, ...]
    labels: npt.NDArray[np.float64]
    """[N, 2] lowest and highest of each label, in the task's unit, equal where exact; [N, 3 + K] with what teachers said of
    the face behind them, a number and words."""
    inner: int
    """px of the contract's square in the middle of each crop."""

    def __len__(self) -> int:
        return len(self.labels)

    def crop(self, index: int) -> npt.NDArray[np.uint8]:
        """[M, M, 3] the crop at a place in the row."""
        for part in self.parts:
            if index < len(part):
                return np.asarray(part[index])
            index -= len(part)
        raise IndexError("expected an index below the number of faces")


@dataclass(frozen=True, eq=False)
class Epoch(Dataset[tuple[Tensor, Tensor]]):
    """One epoch's batches by place: crops uint8 [B, side, side, 3] and labels float32 [B, 2 or more], as in `TrainingFaces`; the
    last, smaller one is left out."""

    faces: TrainingFaces
    number: int
    """Of the epoch, from 0 on."""
    batch: int
    """Crops in a batch, of all processes together."""
    side: int
    """Of the crops, px."""
    seed: int
    how: Augmentation
    share: tuple[int, int] = (0, 1)
    """(i, n): every n-th crop of each batch, from its i-th on, goes to this one of n processes."""

    @functools.cached_property
    def order(self) -> npt.NDArray[np.intp]:
        """[N] all faces as they come in this epoch."""
        return np.random.default_rng([self.seed, self.number]).permutation(len(self.faces))

    def __len__(self) -> int:
        return len(self.faces) // self.batch

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        first, processes = self.share
        row = self.order[place * self.batch : (place + 1) * self.batch][first::processes]
        crops = [self._crop(int(i)) for i in row]
        return torch.from_numpy(np.stack(crops)), torch.from_numpy(self.faces.labels[row].astype(np.float32))

    def _crop(self, index: int) -> npt.NDArray[np.uint8]:
        random = np.random.default_rng([self.seed, self.number, index])
        return augment(self.faces.crop(index), self.side, self.faces.inner, random, self.how)


def batches(epoch: Epoch) -> Iterator[tuple[Tensor, Tensor]]:
    """The epoch's batches in order, prepared ahead.

    On Linux by as many processes as there are CPUs beside those that train; elsewhere, where a process starts anew instead of
    as a copy that shares the faces, by the training itself.
    """
    training = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    workers = max(1, len(os.sched_getaffinity(0)) // training - 1) if sys.platform == "linux" else 0
    yield from DataLoader(
        epoch,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_one_thread,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # its seed moves no other random number
    )


def drawn(
    inputs: Tensor, labels: Tensor, *, batch: int, steps: int, seed: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """So many batches drawn with replacement, to train a head on: features [N, F], or crops [N, S, S, 3], every second mirrored.

    inputs, labels [N]: what is drawn from; each batch is brought to the device.
    """
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (batch,), generator=draw)
        given = inputs[chosen]
        if given.ndim == 4:
            mirrored = torch.rand(batch, generator=draw) < 0.5
            given = torch.where(mirrored[:, None, None, None], given.flip(2), given)
        yield given.to(device), labels[chosen].to(device)


def _one_thread(_: int) -> None:
    """OpenCV's threads do not live on in a copied process."""
    cv2.setNumThreads(0)
