"""The diagnosis of an installation: what works on this machine, and the line to type for what does not."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .diagnosis import Diagnosis as Diagnosis
    from .diagnosis import diagnose as diagnose
    from .finding import Finding as Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]

_HOMES = {"Diagnosis": ".diagnosis", "Finding": ".finding", "diagnose": ".diagnosis"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
