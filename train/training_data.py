"""Prepare the faces of a training: crops with margin for training, contract crops for validation."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..calibration.data.crop_cache import Crops, FaceCrops, face_crops
from ..calibration.data.crop_cache import Rows as CachedRows
from ..calibration.data.datasets import Dataset, Sample
from ..calibration.data.protocols import Protocol, leaking
from ..errors import UsageError
from ..runtime.contract.spec import CropSpec
from ..runtime.faces.crops import scaled_crop
from .batches import Rows, TrainingFaces
from .records import DataCounts

MARGIN = 9 / 7  # side of a cached training crop divided by the model's side
SMOKE_FACES = 256  # faces per data set with --smoke
OWN = Protocol()
Floats: TypeAlias = "npt.NDArray[np.float64]"
Repeat: TypeAlias = tuple[
    float, float, int
]  # labels from, to, inclusive (a band counts by its middle), and the number of repetitions
Cut: TypeAlias = Callable[[CropSpec], Crops]
Ask: TypeAlias = Callable[[Sequence[Sample], Cut], Floats]


@dataclass(frozen=True, eq=False)
class ValidationFaces:
    """One data set's validation crops."""

    name: str
    crops: Crops
    """uint8 [N, S, S, 3]."""
    labels: npt.NDArray[np.float64]
    """[N, 2] lower and upper end of each label, in the task's unit; equal for exact labels."""


def training_faces(
    data: Sequence[Dataset],
    crop: CropSpec,
    smoke: bool,
    protocol: Protocol = OWN,
    *,
    balance: bool = False,
    repeat: Sequence[Repeat] = (),
    slack: float = 0.0,
    asked: Ask | None = None,
) -> tuple[TrainingFaces, dict[str, DataCounts]]:
    """Return the training faces of all data sets, without duplicates and as the protocol selects, and the counts by data set.

    balance: repeat a smaller data set a whole number of times, to come closest to the size of the largest.
    repeat: repeat faces with labels in some ranges. slack: widen bands by this much on both sides. asked: a function that gives
    further columns [N, T] for the faces; its arguments are their samples and a function that crops them, in order, by any crop
    contract.
    All faces are cropped before the protocol selects, so that another seed, fold or number of shots reuses the crops.
    """
    larger = scaled_crop(crop, 2 * round(crop.side * MARGIN / 2))
    found: list[FaceCrops] = []
    rows: list[Floats] = []
    counts: dict[str, DataCounts] = {}
    for dataset in data:
        drawn = protocol.splits(dataset)
        elsewhere = [] if smoke else [s for s in drawn.samples if s.split not in ("train", None)]
        chosen = _few(drawn.select("train"), smoke).without_copies(of=elsewhere)
        source = chosen if drawn is dataset or smoke else dataset
        faces = face_crops(source, larger).take(chosen.samples)
        skipped = len(faces.skipped)
        faces = faces.take(protocol.training(faces.samples))
        found.append(faces)
        behind = [] if asked is None else [asked(faces.samples, partial(_cut, source, faces.samples))]
        rows.append(np.concatenate([widened(faces.ends, slack), *behind], axis=1))
        counts[short_name(dataset.name)] = DataCounts(len(faces.samples), skipped, chosen.copies, chosen.conflicting)
    if balance:
        sizes = [len(faces.samples) for faces in found]
        times = [round(max(sizes) / n) if n else 1 for n in sizes]
        found = [faces for faces, n in zip(found, times, strict=True) for _ in range(n)]
        rows = [row for row, n in zip(rows, times, strict=True) for _ in range(n)]
    parts: list[Rows] = []
    labels: list[Floats] = []
    for faces, row in zip(found, rows, strict=True):
        places = repeated([s.middle for s in faces.samples], repeat)
        parts.append(faces.crops if len(places) == len(row) else CachedRows(faces.crops, places))
        labels.append(row[places])
    return TrainingFaces(tuple(parts), np.concatenate(labels), crop.side), counts


def repeated(middles: Sequence[float], repeat: Sequence[Repeat]) -> npt.NDArray[np.intp]:
    """Return the indices of labels, each repeated as its first matching range says; once if none matches."""
    times = [next((n for low, high, n in repeat if low <= middle <= high), 1) for middle in middles]
    return np.repeat(np.arange(len(times), dtype=np.intp), times)


def widened(ends: Floats, slack: float) -> Floats:
    """Return the ends of labels [N, 2] with bands, but not exact labels, wider by `slack` on both sides; none starts below 0."""
    banded = ends[:, 0] < ends[:, 1]
    return np.where(banded[:, None], np.maximum(ends + np.array([-slack, slack]), 0), ends)


def _cut(source: Dataset, samples: Sequence[Sample], crop: CropSpec) -> Crops:
    """Crop the same faces by another crop contract, [N, S, S, 3]."""
    return face_crops(source, crop).take(samples).crops


def split_faces(
    dataset: Dataset, split: str, crop: CropSpec, smoke: bool = False, protocol: Protocol = OWN
) -> ValidationFaces:
    """Return one split of one data set as contract crops, for validation or test."""
    drawn = protocol.splits(dataset)
    chosen = _few(drawn.select(split), smoke)
    faces = face_crops(chosen if drawn is dataset or smoke else dataset, crop).take(chosen.samples)
    return ValidationFaces(short_name(dataset.name), faces.crops, faces.ends)


def leaks(data: Sequence[Dataset], protocol: Protocol) -> dict[str, str]:
    """Return, by data set, how many test pictures show a person of the training split; data sets without any are left out."""
    found: dict[str, str] = {}
    for dataset in data:
        shared = leaking(protocol.splits(dataset))
        if shared is not None and shared[0]:
            found[short_name(dataset.name)] = f"{shared[0]} of {shared[1]} test pictures show a person who is in train"
    return found


def _few(dataset: Dataset, smoke: bool) -> Dataset:
    return replace(dataset, samples=dataset.samples[:SMOKE_FACES]) if smoke else dataset


def short_name(text: str) -> str:
    """Return `utkface:/long/path/utkface.tar` without folders, because records must not name local paths."""
    kind, _, path = text.partition(":")
    return f"{kind}:{Path(path).name}"


def check_names(data: Sequence[str]) -> None:
    """Raise UsageError for two data sets with one short name: the records tell data sets apart by it."""
    found: dict[str, str] = {}
    for text in data:
        name = short_name(text)
        if name in found:
            raise UsageError(
                f"expected --data with different file names, got {found[name]} and {text}, both recorded as {name}; rename one of them"
            )
        found[name] = text


def parse_repeat(text: str) -> Repeat:
    """Parse `13-19:2`: labels from 13 to 19 appear twice; raises UsageError."""
    found = re.fullmatch(r"(\d+)-(\d+):(\d+)", text)
    low, high, times = (0.0, 0.0, 0) if found is None else (float(found[1]), float(found[2]), int(found[3]))
    if times < 1 or high < low:
        raise UsageError(f"expected --repeat FROM-TO:TIMES, such as 13-19:2, got {text!r}")
    return low, high, times
