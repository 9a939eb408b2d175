"""Open a trained checkpoint that is given to a command as a model."""

from __future__ import annotations

from pathlib import Path

from ..runtime.sessions.model import Model


def opened_checkpoint(name: str) -> Model | None:
    """Open the checkpoint of this name in PyTorch; None for any other kind of model. Raises ModelError."""
    if Path(name).suffix != ".safetensors":
        return None
    from ..train.checkpoint_model import open_checkpoint

    return open_checkpoint(name)
