"""`numclip serve`: ages over HTTP, live sources and browsers' cameras, from one process with one model.

`serve(ServeOptions(sources=("0",)))` is the command `numclip serve 0`. It needs the extra `server` (FastAPI, uvicorn).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .options import ServeOptions as ServeOptions
    from .serving import serve as serve

__all__ = ["ServeOptions", "serve"]

_HOMES = {"ServeOptions": ".options", "serve": ".serving"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module 'numclip.server' has no attribute {name!r}")
