"""Export: `from numclip.export import ExportOptions, export`. Each name is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .to_onnx import ExportOptions, export

__all__ = ["ExportOptions", "export"]

__getattr__ = lazy(__name__, dict.fromkeys(__all__, ".to_onnx"))
