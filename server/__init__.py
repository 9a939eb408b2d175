"""`numclip serve`: one process with one model reads ages off pictures sent over HTTP, live sources and browsers' cameras.

`serve(ServeOptions(sources=("0",)))` is the command `numclip serve 0`. It needs the extra `server` (FastAPI, uvicorn).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .options import ServeOptions as ServeOptions
    from .serving import serve as serve

__all__ = ["ServeOptions", "serve"]

__getattr__ = lazy(__name__, {"ServeOptions": ".options", "serve": ".serving"})
