"""Deployment: the kit for a Jetson board, and a model repository for Triton."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .kit import JetsonKitOptions as JetsonKitOptions
    from .kit import jetson_kit as jetson_kit
    from .triton import triton_repository as triton_repository

__all__ = ["JetsonKitOptions", "jetson_kit", "triton_repository"]

__getattr__ = lazy(__name__, {"JetsonKitOptions": ".kit", "jetson_kit": ".kit", "triton_repository": ".triton"})
