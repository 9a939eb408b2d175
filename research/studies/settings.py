"""What all runs of a study share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Settings:
    """What all runs of a study share."""

    data: tuple[str, ...] = ()
    """DATA, as it was given; in a results file without folders."""
    task: str = "age"
    """A task in `train/tasks/`, or the path of a .json file."""
    model: str = "nano"
    """open_clip's model name, or one of ours."""
    pretrained: str | None = None
    """The tag or file of the weights to start from."""
    tower: Literal["frozen", "trained"] = "frozen"
    """The image tower."""
    faces: int | None = 6000
    """Training pictures per data set at most, at random; None: all."""
    steps: int = 200
    """Of a training."""
    batch: int = 128
    """Pictures in a step."""
    lr: float = 1e-3
    """The highest learning rate."""
    weight_decay: float = 0.05
    """Of matrices and kernels."""
    checkpoint: str | None = None
    """A trained network to look at beside the others."""
    checkpoint_sha256: str | None = None
