"""Reproducible training batches: seed, epoch and index decide the order and the augmentation of each crop."""

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

AHEAD = 3  # batches that each worker prepares ahead


class Rows(Protocol):
    """Crops uint8 [n, M, M, 3] RGB, memory-mapped or in memory."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, at: Any, /) -> npt.NDArray[np.uint8]: ...


@dataclass(frozen=True, eq=False)
class TrainingFaces:
    """Cached training crops, with margin, of one or more data sets."""

    parts: tuple[Rows, ...]
    labels: npt.NDArray[np.float64]
    """[N, 2] lower and upper end of each label, in the task's unit (equal for exact labels). With teachers [N, 3 + K]: then
    the teachers' value and their bin probabilities for that face."""
    inner: int
    """Side of the contract's square in the center of each crop, px."""

    def __len__(self) -> int:
        return len(self.labels)

    def crop(self, index: int) -> npt.NDArray[np.uint8]:
        """Return crop number `index`, [M, M, 3]."""
        for part in self.parts:
            if index < len(part):
                return np.asarray(part[index])
            index -= len(part)
        raise IndexError("expected an index below the number of faces")


@dataclass(frozen=True, eq=False)
class Epoch(Dataset[tuple[Tensor, Tensor]]):
    """One epoch's batches by index: crops uint8 [B, side, side, 3] and labels float32 [B, 2 or more], as in `TrainingFaces`; the
    last, incomplete batch is dropped."""

    faces: TrainingFaces
    number: int
    """Number of the epoch, from 0."""
    batch: int
    """Crops per batch, over all processes."""
    side: int
    """Side of the crops, px."""
    seed: int
    how: Augmentation
    share: tuple[int, int] = (0, 1)
    """(i, n): this is process i of n and takes crops i, i + n, i + 2n, ... of each batch."""

    @functools.cached_property
    def order(self) -> npt.NDArray[np.intp]:
        """Return the order of all faces in this epoch, [N]."""
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
    """Yield the epoch's batches in order, prepared ahead.

    On Linux, worker processes prepare them, one for each CPU that does not train. On other systems a worker would start without
    sharing the faces' memory, so the training process prepares the batches itself.
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
        generator=torch.Generator(),  # a generator of its own, so that other random numbers stay the same
    )


def drawn(
    inputs: Tensor, labels: Tensor, *, batch: int, steps: int, seed: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield `steps` batches drawn with replacement, to train a head: features [N, F], or crops [N, S, S, 3], half of them mirrored.

    inputs, labels [N]: the pool to draw from. Each batch is moved to the device.
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
    """Use one OpenCV thread: OpenCV's thread pool does not survive a fork."""
    cv2.setNumThreads(0)
