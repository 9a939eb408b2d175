"""From data sets to what a training reads: crops with margin to learn from, contract crops to select on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..calibration.data.crop_cache import FaceCrops, face_crops
from ..calibration.data.datasets import Dataset
from ..calibration.data.protocols import Protocol, leaking
from ..runtime.contract.spec import CropSpec
from ..runtime.faces.crops import scaled_crop
from .batches import Rows, TrainingFaces
from .records import DataCounts

MARGIN = 9 / 7  # side of a cached training crop over the model's side
SMOKE_FACES = 256  # faces per data set with --smoke
OWN = Protocol()


@dataclass(frozen=True, eq=False)
class ValidationFaces:
    """One data set's validation crops."""

    name: str
    crops: Rows
    """uint8 [N, S, S, 3]."""
    labels: npt.NDArray[np.float64]
    """[N] in the task's unit."""


def training_faces(
    data: Sequence[Dataset], crop: CropSpec, smoke: bool, protocol: Protocol = OWN, *, balance: bool = False
) -> tuple[TrainingFaces, dict[str, DataCounts]]:
    """The train splits in a row, copies dropped, those that the protocol leaves, and how many of what by data set.

    balance: a smaller data set stands in the row as many whole times as come closest to the largest.
    Faces are cut before the protocol chooses, so that another seed, fold or number of shots cuts nothing again.
    """
    larger = scaled_crop(crop, 2 * round(crop.side * MARGIN / 2))
    found: list[FaceCrops] = []
    counts: dict[str, DataCounts] = {}
    for dataset in data:
        drawn = protocol.splits(dataset)
        chosen = _few(drawn.select("train"), smoke).without_copies()
        cut = face_crops(chosen if drawn is dataset or smoke else dataset, larger)
        faces = cut.take(chosen.samples)
        faces = faces.take(protocol.training(faces.samples))
        found.append(faces)
        n, skipped = len(faces.samples), len(faces.skipped)
        counts[short_name(dataset.name)] = DataCounts(n, skipped, chosen.copies, chosen.conflicting)
    if balance:
        sizes = [len(faces.samples) for faces in found]
        times = [round(max(sizes) / n) if n else 1 for n in sizes]
        found = [faces for faces, n in zip(found, times, strict=True) for _ in range(n)]
    labels = np.concatenate([f.labels for f in found])
    return TrainingFaces(tuple(f.crops for f in found), labels, crop.side), counts


def split_faces(
    dataset: Dataset, split: str, crop: CropSpec, smoke: bool = False, protocol: Protocol = OWN
) -> ValidationFaces:
    """One split of one data set, cut by the contract: val to choose on, test to report."""
    drawn = protocol.splits(dataset)
    chosen = _few(drawn.select(split), smoke)
    faces = face_crops(chosen if drawn is dataset or smoke else dataset, crop).take(chosen.samples)
    return ValidationFaces(short_name(dataset.name), faces.crops, faces.labels)


def leaks(data: Sequence[Dataset], protocol: Protocol) -> dict[str, str]:
    """By data set, how many test pictures show a person of the training split, where any do."""
    found: dict[str, str] = {}
    for dataset in data:
        shared = leaking(protocol.splits(dataset))
        if shared is not None and shared[0]:
            found[short_name(dataset.name)] = f"{shared[0]} of {shared[1]} test pictures show a person who is in train"
    return found


def _few(dataset: Dataset, smoke: bool) -> Dataset:
    return replace(dataset, samples=dataset.samples[:SMOKE_FACES]) if smoke else dataset


def short_name(text: str) -> str:
    """`utkface:/long/path/utkface.tar` without the folders: records name no machine."""
    kind, _, path = text.partition(":")
    return f"{kind}:{Path(path).name}"
