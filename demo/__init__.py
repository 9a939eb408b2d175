"""The demo: make a clip of two well-known portraits and run numclip on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .show import DemoOptions as DemoOptions
    from .show import Shown as Shown
    from .show import demo as demo

__all__ = ["DemoOptions", "Shown", "demo"]

__getattr__ = lazy(__name__, dict.fromkeys(__all__, ".show"))
