"""Training batches that are the same in every run: epoch and place decide the order and each crop's randomness."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .augment import Augmentation, augment

AHEAD = 3  # batches prepared while one is trained on


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

    share: (i, n) gives every n-th crop of each batch, from its i-th on, to one of n processes.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(faces))
    starts = range(0, len(order) - batch + 1, batch)

    def make(start: int) -> tuple[Tensor, Tensor]:
        chosen = order[start : start + batch][share[0] :: share[1]]
        crops = [
            augment(faces.crop(int(i)), side, faces.inner, np.random.default_rng([seed, epoch, int(i)]), how)
            for i in chosen
        ]
        return torch.from_numpy(np.stack(crops)), torch.from_numpy(faces.labels[chosen].astype(np.float32))

    with ThreadPoolExecutor(1, "augment") as pool:
        waiting = [pool.submit(make, start) for start in starts[:AHEAD]]
        for at in range(len(starts)):
            if at + AHEAD < len(starts):
                waiting.append(pool.submit(make, starts[at + AHEAD]))
            yield waiting.pop(0).result()
