"""The demo: a clip of two well-known portraits, and the main job done on it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .show import DemoOptions as DemoOptions
    from .show import Shown as Shown
    from .show import demo as demo

__all__ = ["DemoOptions", "Shown", "demo"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(importlib.import_module(".show", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
