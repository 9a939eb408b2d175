"""Deployment: the kit for a Jetson board, a model repository for Triton, and a model's place on the Hugging Face Hub."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .hub import PushOptions as PushOptions
    from .hub import push_models as push_models
    from .kit import JetsonKitOptions as JetsonKitOptions
    from .kit import jetson_kit as jetson_kit
    from .triton import triton_repository as triton_repository

__all__ = ["JetsonKitOptions", "PushOptions", "jetson_kit", "push_models", "triton_repository"]

_HOMES = {
    "JetsonKitOptions": ".kit",
    "PushOptions": ".hub",
    "jetson_kit": ".kit",
    "push_models": ".hub",
    "triton_repository": ".triton",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
