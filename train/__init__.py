"""Training: `from numclip.train import TrainOptions, train`. Each name is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

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
__getattr__ = lazy(
    __name__,
    {
        "open_checkpoint": ".checkpoint_model",
        "TrainResult": ".fit",
        "train": ".fit",
        "RebinOptions": ".new_words",
        "RebinResult": ".new_words",
        "rebin": ".new_words",
        "TrainOptions": ".options",
        "train_recipe": ".recipes",
    },
)
