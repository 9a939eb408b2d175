"""Settings of the process for a training, restored afterwards."""

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
    """Set threads and allocator for a training and silence lightning's remarks; restores them afterwards.

    threads: of torch; 0: all cores. The allocator's setting is not restored, because the C library does not report the old one.
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
            warnings.filterwarnings("ignore", message=".*barrier.*")  # from torch, in a training with several processes
            yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
        lightning.setLevel(before[2])


def keep_memory() -> bool:
    """Let this process keep up to 2 GiB of freed memory; True if the C library supports it (glibc).

    By default glibc returns large blocks to the system at once, and the system zeroes their pages one by one at the next use.
    A training step allocates the same blocks again, and on one core then takes 1.4 times as long (309 against 213 ms, age-nano,
    batch 32).
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, KEEP_BYTES), (M_TOP_PAD, ROOM_BYTES))
    return all(mallopt(name, value) == 1 for name, value in wanted)
