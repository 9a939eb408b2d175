"""A trained checkpoint among the models that a command is given."""

from __future__ import annotations

from pathlib import Path

from ..runtime.sessions.model import Model


def opened_checkpoint(name: str) -> Model | None:
    """The checkpoint of this name, opened in PyTorch; None for every other kind of model. Raises ModelError."""
    if Path(name).suffix != ".safetensors":
        return None
    from ..train.checkpoint_model import open_checkpoint

    return open_checkpoint(name)
