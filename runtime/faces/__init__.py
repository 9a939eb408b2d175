"""Faces in pictures: finding, following and cropping them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .opening import open_detector as open_detector

__all__ = ["open_detector"]


def __getattr__(name: str) -> object:
    if name == "open_detector":
        from .opening import open_detector

        return open_detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
