"""One process or many, one device or several, float32 or mixed: Lightning Fabric, started by torchrun where many are.

Every process reads its share of each batch. The losses compare a whole batch, so the processes exchange what the network
put out, and each computes the loss of the whole; the gradients of the processes then add up to those of one.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from . import torchvision_gap  # noqa: F401  # pyright: ignore[reportUnusedImport]  (before lightning, which imports it)

from lightning_fabric import Fabric  # isort: skip
from timm.layers import convert_sync_batchnorm  # isort: skip

from ..errors import UsageError
from .network import Outputs

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def open_fabric(precision: str, batch: int) -> Fabric:
    """The processes that torchrun started, or this one alone; raises UsageError if a batch cannot be shared out."""
    world, here = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if batch % world:
        raise UsageError(f"expected --batch a multiple of the {world} processes, got {batch}")
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    many = world > 1
    if many:
        warnings.filterwarnings("ignore", message=".*barrier.*")
    fabric = Fabric(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        strategy="ddp" if many else "auto",
        devices=here,
        num_nodes=world // here,
        precision=PRECISIONS[precision],  # pyright: ignore[reportArgumentType]
    )
    fabric.launch()
    return fabric


def synchronised(network: nn.Module, fabric: Fabric) -> nn.Module:
    """The same network with batch norms over all processes, where the device can (CUDA); elsewhere each has its own."""
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        return convert_sync_batchnorm(network)
    return network


def gathered(fabric: Fabric, outputs: Outputs, labels: Tensor) -> tuple[Outputs, Tensor]:
    """Outputs and labels of the whole batch, in an order that all processes share; this process's part has its gradient.

    Nothing is exchanged on the way back: every process computes the loss of the whole batch, whose gradient to its own
    outputs is right as it is; `backward` undoes the division by which the processes' gradients become a mean.
    """
    if fabric.world_size == 1:
        return outputs, labels

    def everyone(mine: Tensor) -> Tensor:
        parts: Any = fabric.all_gather(mine.detach().contiguous())  # [processes, n, ...]
        return torch.cat([mine if rank == fabric.global_rank else part for rank, part in enumerate(parts)])

    return Outputs(*(everyone(t) for t in outputs)), everyone(labels)


def backward(fabric: Fabric, loss: Tensor) -> None:
    """The gradient of a loss over the whole batch."""
    fabric.backward(loss * fabric.world_size)


class Waiting:
    """An iterator that counts the seconds its reader waited for it."""

    def __init__(self, source: Iterator[Any]) -> None:
        self.source, self.waited_s = source, 0.0

    def __iter__(self) -> Iterator[Any]:
        while True:
            started = time.monotonic()
            item = next(self.source, None)
            self.waited_s += time.monotonic() - started
            if item is None:
                return
            yield item
