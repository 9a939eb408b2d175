"""Deployment: the setup kit for a Jetson, a model repository for Triton, and uploads to the Hugging Face Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .hub import PushOptions as PushOptions
    from .hub import push_models as push_models
    from .kit import JetsonKitOptions as JetsonKitOptions
    from .kit import jetson_kit as jetson_kit
    from .triton import triton_repository as triton_repository

__all__ = ["JetsonKitOptions", "PushOptions", "jetson_kit", "push_models", "triton_repository"]

__getattr__ = lazy(
    __name__,
    {
        "JetsonKitOptions": ".kit",
        "PushOptions": ".hub",
        "jetson_kit": ".kit",
        "push_models": ".hub",
        "triton_repository": ".triton",
    },
)
