"""Exporting: `from numclip.export import ExportOptions, export`. What is named here is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .to_onnx import ExportOptions, export

__all__ = ["ExportOptions", "export"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".to_onnx", __name__), name)
