"""From data sets to what a training reads: crops with margin to learn from, contract crops to select on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..calibration.crop_cache import face_crops, scaled_crop
from ..calibration.datasets import Dataset
from ..runtime.spec import CropSpec
from .batches import TrainingFaces

MARGIN = 9 / 7  # side of a cached training crop over the model's side
SMOKE_FACES = 256  # faces per data set with --smoke


@dataclass(frozen=True, eq=False)
class ValidationFaces:
    """One data set's validation crops."""

    name: str
    crops: Any  # uint8 [N, S, S, 3]
    labels: Any  # float64 [N]


def training_faces(data: list[Dataset], crop: CropSpec, smoke: bool) -> tuple[TrainingFaces, dict[str, Any]]:
    """The train splits in a row, copies dropped, and how many of what by data set."""
    larger = scaled_crop(crop, 2 * round(crop.side * MARGIN / 2))
    found, counts = [], {}
    for dataset in data:
        chosen = _few(dataset.select("train"), smoke).without_copies()
        faces = face_crops(chosen, larger)
        found.append(faces)
        counts[short_name(dataset.name)] = {
            "n": len(faces.samples),
            "skipped": len(faces.skipped),
            "copies": chosen.copies,
            "conflicting": chosen.conflicting,
        }
    labels = np.concatenate([f.labels for f in found])
    return TrainingFaces(tuple(f.crops for f in found), labels, crop.side), counts


def validation_faces(dataset: Dataset, crop: CropSpec, smoke: bool) -> ValidationFaces:
    """The val split of one data set."""
    faces = face_crops(_few(dataset.select("val"), smoke), crop)
    return ValidationFaces(short_name(dataset.name), faces.crops, faces.labels)


def _few(dataset: Dataset, smoke: bool) -> Dataset:
    return replace(dataset, samples=dataset.samples[:SMOKE_FACES]) if smoke else dataset


def short_name(text: str) -> str:
    """`utkface:/long/path/utkface.tar` without the folders: records name no machine."""
    kind, _, path = text.partition(":")
    return f"{kind}:{Path(path).name}"
