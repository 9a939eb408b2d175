"""Deployment: the kit for a Jetson board, and a model repository for Triton."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .kit import JetsonKitOptions as JetsonKitOptions
    from .kit import jetson_kit as jetson_kit
    from .triton import triton_repository as triton_repository

__all__ = ["JetsonKitOptions", "jetson_kit", "triton_repository"]

_HOMES = {"JetsonKitOptions": ".kit", "jetson_kit": ".kit", "triton_repository": ".triton"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
