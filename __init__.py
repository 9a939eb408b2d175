"""Estimate ages from faces in live video, with one self-describing model file.

    model = numclip.load("age-nano")          # a shipped model's name, or an .onnx file
    result = numclip.read("photo.jpg")        # one picture: detect faces, crop them, run the model
    for result in numclip.stream(0): ...      # a camera, frame by frame

Importing this package loads neither OpenCV nor ONNX Runtime; the first call does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .runtime.contract.readings import Reading as Reading
    from .runtime.contract.spec import ModelSpec as ModelSpec
    from .runtime.live.reading import open_stream as open_stream
    from .runtime.live.reading import read as read
    from .runtime.live.reading import stream as stream
    from .runtime.sessions.model import load as load

    __version__: str

__all__ = ["ModelSpec", "Reading", "__version__", "load", "open_stream", "read", "stream"]

_HOMES = {
    "load": ".runtime.sessions.model",
    "open_stream": ".runtime.live.reading",
    "read": ".runtime.live.reading",
    "stream": ".runtime.live.reading",
    "Reading": ".runtime.contract.readings",
    "ModelSpec": ".runtime.contract.spec",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("numclip")
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module 'numclip' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
