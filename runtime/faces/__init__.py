"""Faces in pictures: finding, following and cropping them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
    from .opening import open_detector as open_detector

__all__ = ["open_detector"]

__getattr__ = lazy(__name__, dict.fromkeys(__all__, ".opening"))
