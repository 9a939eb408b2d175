"""Labels that are half a trained network's: it has seen faces like this one, and a label says only what one file said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from .augment import center
from .batches import TrainingFaces
from .checkpoint import load_checkpoint
from .validation import BATCH, predict


def taught(faces: TrainingFaces, teachers: Sequence[Path], device: torch.device) -> TrainingFaces:
    """The same faces, each label replaced by the mean of itself and the checkpoints' reading, which is the mean over all of
    them and over the face and its mirror image. Raises ModelError if a checkpoint cannot be read.
    """
    readings = np.zeros(len(faces))
    for path in teachers:
        teacher, _ = load_checkpoint(path)
        side = int(teacher.record["image_side"])
        teacher = teacher.to(device)
        for start in range(0, len(faces), BATCH):
            places = range(start, min(start + BATCH, len(faces)))
            crops = np.stack([center(faces.crop(i), side, faces.inner) for i in places])
            for view in (crops, crops[:, :, ::-1]):
                readings[places.start : places.stop] += predict(teacher, view)[0] / (2 * len(teachers))
    return replace(faces, labels=(faces.labels + readings) / 2)
