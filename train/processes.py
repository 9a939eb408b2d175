"""Training in one or more processes, on one or more devices, in float32 or mixed precision, with Lightning Fabric.

torchrun starts several processes. Each process reads its share of a batch. The losses compare the whole batch, so the processes
exchange the network's outputs and each computes the loss of the whole batch. The sum of their gradients is the gradient that
a single process would compute.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from . import torchvision_gap  # noqa: F401  # pyright: ignore[reportUnusedImport]  (before lightning, which imports it)

from lightning_fabric import Fabric  # isort: skip
from timm.layers import convert_sync_batchnorm  # isort: skip

from ..errors import UsageError
from .network import Outputs
from .options import Amp

NO_BFLOAT16 = ("DEFAULT", "NO AVX", "AVX2")  # emulated on most CPUs: a step of `small` took 20 s instead of 1
T = TypeVar("T")


def usable_amp(amp: Amp, *, as_released: bool = False) -> Amp:
    """Return the requested mixed precision, or `off` if the device would only emulate it, as most CPUs do with bfloat16.

    as_released: the authors' float16 is off on every CPU, where it is slower and not more accurate.
    """
    if torch.cuda.is_available():
        return amp
    imitated = amp == "bf16" and torch.backends.cpu.get_cpu_capability() in NO_BFLOAT16
    return "off" if imitated or (as_released and amp == "fp16") else amp


def open_fabric(amp: Amp, batch: int) -> Fabric:
    """Open Fabric for the processes that torchrun started, or for this one; raises UsageError if a batch cannot be divided."""
    world, here = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if batch % world:
        raise UsageError(f"expected --batch to be a multiple of the {world} processes, got {batch}")
    fabric = Fabric(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        strategy="ddp" if world > 1 else "auto",
        devices=here,
        num_nodes=world // here,
        precision="bf16-mixed" if amp == "bf16" else "16-mixed" if amp == "fp16" else "32-true",
    )
    fabric.launch()
    return fabric


def synchronised(network: nn.Module, fabric: Fabric) -> nn.Module:
    """Return the network with batch norms synchronised over all processes on CUDA; on other devices each process has its own."""
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        return convert_sync_batchnorm(network)
    return network


def gathered(fabric: Fabric, outputs: Outputs, labels: Tensor) -> tuple[Outputs, Tensor]:
    """Gather outputs and labels of the whole batch, in the same order in all processes; only this process's part has gradients.

    The backward pass exchanges nothing: every process computes the loss of the whole batch, so the gradient of its own outputs
    is complete. `backward` undoes the division by which Fabric averages the processes' gradients.
    """
    if fabric.world_size == 1:
        return outputs, labels

    def everyone(mine: Tensor) -> Tensor:
        parts: Any = fabric.all_gather(
            mine.detach().contiguous()
        )  # a tensor goes in, so a tensor [processes, n, ...] comes out
        return torch.cat([mine if rank == fabric.global_rank else part for rank, part in enumerate(parts)])

    return Outputs(*(everyone(t) for t in outputs)), everyone(labels)


def backward(fabric: Fabric, loss: Tensor) -> None:
    """Compute the gradient of a loss over the whole batch."""
    fabric.backward(loss * fabric.world_size)


class Waiting(Generic[T]):
    """An iterable that measures how long its reader waits for items, in seconds."""

    def __init__(self, source: Iterable[T]) -> None:
        self.source, self.waited_s = source, 0.0

    def __iter__(self) -> Iterator[T]:
        items = iter(self.source)
        while True:
            started = time.monotonic()
            item = next(items, None)
            self.waited_s += time.monotonic() - started
            if item is None:
                return
            yield item
