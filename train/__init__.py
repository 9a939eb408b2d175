"""Training: `from numclip.train import TrainOptions, train`. What is named here is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checkpoint_model import open_checkpoint
    from .fit import TrainResult, train
    from .new_words import RebinOptions, RebinResult, rebin
    from .options import TrainOptions
    from .recipes import train_recipe

__all__ = [
    "RebinOptions",
    "RebinResult",
    "TrainOptions",
    "TrainResult",
    "open_checkpoint",
    "rebin",
    "train",
    "train_recipe",
]
_HOMES = {
    "open_checkpoint": "checkpoint_model",
    "TrainResult": "fit",
    "train": "fit",
    "RebinOptions": "new_words",
    "RebinResult": "new_words",
    "rebin": "new_words",
    "TrainOptions": "options",
    "train_recipe": "recipes",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
