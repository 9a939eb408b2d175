"""The benchmark: `bench` times models on this machine, `compare` sets two reports side by side."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .benchmark import bench as bench
    from .comparison import compare as compare
    from .options import BenchOptions as BenchOptions

__all__ = ["BenchOptions", "bench", "compare"]

_HOMES = {"BenchOptions": ".options", "bench": ".benchmark", "compare": ".comparison"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
