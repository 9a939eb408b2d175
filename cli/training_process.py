"""This process as a training wants it, and afterwards as it was."""

from __future__ import annotations

import ctypes
import logging
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h
KEEP_BYTES, ROOM_BYTES = 2**31 - 1, 2**28


@contextmanager
def process_for_training(threads: int) -> Generator[None]:
    """This process as a training wants it: threads, the allocator, and no remarks of lightning's; then as before.

    threads: of torch; 0: all. The allocator stays as it was told, because the C library does not say how it was.
    """
    import cv2
    import torch

    lightning = logging.getLogger("lightning_fabric")
    before = torch.get_num_threads(), cv2.getNumThreads(), lightning.level
    if threads:
        torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    lightning.setLevel(logging.ERROR)
    keep_memory()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*barrier.*")  # of torch, where a training is many processes
            yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
        lightning.setLevel(before[2])


def keep_memory() -> bool:
    """Let this process keep freed memory up to 2 GiB; True where the C library is one that can (glibc).

    glibc returns large blocks to the system at once, and the system hands them out again as pages to be zeroed one by one.
    A training step asks for the same again, and on one core then takes 1.4 times as long (309 against 213 ms, age-nano,
    batch 32).
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, KEEP_BYTES), (M_TOP_PAD, ROOM_BYTES))
    return all(mallopt(name, value) == 1 for name, value in wanted)
