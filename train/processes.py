"""One process or many, one device or several, float32 or mixed: Lightning Fabric, started by torchrun where many are.

Every process reads its share of each batch. The losses compare a whole batch, so the processes exchange what the network
put out, and each computes the loss of the whole; the gradients of the processes then add up to those of one.
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

NO_BFLOAT16 = ("DEFAULT", "NO AVX", "AVX2")  # CPUs that imitate it: a step of `small` took 20 s instead of 1
T = TypeVar("T")


def usable_amp(amp: Amp, *, as_released: bool = False) -> Amp:
    """The mixed precision, or `off` where the device would only imitate it: bfloat16 on most CPUs.

    as_released: the authors' float16 is off on any CPU, where it is slower and no more exact.
    """
    if torch.cuda.is_available():
        return amp
    imitated = amp == "bf16" and torch.backends.cpu.get_cpu_capability() in NO_BFLOAT16
    return "off" if imitated or (as_released and amp == "fp16") else amp


def open_fabric(amp: Amp, batch: int) -> Fabric:
    """The processes that torchrun started, or this one alone; raises UsageError if a batch cannot be shared out."""
    world, here = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if batch % world:
        raise UsageError(f"expected --batch a multiple of the {world} processes, got {batch}")
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
        parts: Any = fabric.all_gather(
            mine.detach().contiguous()
        )  # a tensor [processes, n, ...], as a tensor was given
        return torch.cat([mine if rank == fabric.global_rank else part for rank, part in enumerate(parts)])

    return Outputs(*(everyone(t) for t in outputs)), everyone(labels)


def backward(fabric: Fabric, loss: Tensor) -> None:
    """The gradient of a loss over the whole batch."""
    fabric.backward(loss * fabric.world_size)


class Waiting(Generic[T]):
    """An iterable that counts the seconds its reader waited for it."""

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
