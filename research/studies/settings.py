"""Settings that all runs of a study share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Settings:
    """Settings that all runs of a study share."""

    data: tuple[str, ...] = ()
    """DATA as given; without folders in a results file."""
    task: str = "age"
    """A task in `train/tasks/`, or the path of a .json file."""
    model: str = "nano"
    """An open_clip model name, or one of our towers."""
    pretrained: str | None = None
    """Tag or file of the initial weights."""
    tower: Literal["frozen", "trained"] = "frozen"
    """Whether the image tower is frozen or trained."""
    faces: int | None = 6000
    """Maximum number of training pictures per data set, chosen at random; None: all."""
    steps: int = 200
    """Number of training steps."""
    batch: int = 128
    """Pictures per step."""
    lr: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 0.05
    """Weight decay, for matrices and kernels only."""
    checkpoint: str | None = None
    """A trained network to include in the comparison."""
    checkpoint_sha256: str | None = None
