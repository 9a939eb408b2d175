"""The benchmark: `bench` times models on this machine, `compare` compares two reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .benchmark import bench as bench
    from .comparison import compare as compare
    from .options import BenchOptions as BenchOptions

__all__ = ["BenchOptions", "bench", "compare"]

__getattr__ = lazy(__name__, {"BenchOptions": ".options", "bench": ".benchmark", "compare": ".comparison"})
