"""Run a model on many faces: the one loop over crops that every measurement uses.

Evaluation, calibration, checks and cards must agree to the last bit, so they use the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ...runtime.contract.readings import Readings
from ...runtime.sessions.model import Model
from ...runtime.sessions.session import Outputs, Session
from ..data.crop_cache import DEFAULT_DETECTOR, Crops, FaceCrops, face_crops
from ..data.datasets import Dataset

Floats = npt.NDArray[np.float64]
BATCH = 64


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's outputs for the faces of one data set, in the data set's order."""

    readings: Readings  # N
    faces: FaceCrops  # N samples with their labels and groups; skipped files

    def one_per_person(self, near: float) -> Predictions:
        """Of each person, as the data names them, only the picture whose label is nearest to `near`; the first of equals."""
        samples = self.faces.samples
        nearest: dict[str, int] = {}
        for i in sorted(range(len(samples)), key=lambda i: abs(samples[i].middle - near)):
            nearest.setdefault(samples[i].person(""), i)
        chosen = sorted(nearest.values())
        if len(chosen) == len(samples):
            return self
        faces = replace(self.faces.take([samples[i] for i in chosen]), skipped=self.faces.skipped)
        r, rows = self.readings, np.array(chosen, np.intp)
        sharp = None if r.sharpness is None else r.sharpness[rows]
        return Predictions(Readings(r.value[rows], r.probabilities[rows], r.embedding[rows], r.spec, sharp), faces)

    @property
    def values(self) -> Floats:
        """[N] in the task's unit."""
        return self.readings.value.astype(np.float64)

    @property
    def labels(self) -> Floats:
        """[N] in the task's unit."""
        return self.faces.labels


def predict(model: Model, crops: Crops) -> Readings:
    """A model's readings of any number of crops [N, S, S, 3], N >= 1, with its calibration."""
    return joined([model(part) for part in _batches(crops)])


def answers(session: Session, crops: Crops) -> Outputs:
    """A graph's outputs for any number of crops [N, S, S, 3], N >= 1, without calibration."""
    parts = [session.run(part) for part in _batches(crops)]
    return Outputs(
        np.concatenate([p.value for p in parts]),
        np.concatenate([p.probabilities for p in parts]),
        np.concatenate([p.embedding for p in parts]),
    )


def dataset_faces(model: Model, dataset: Dataset, detector: str = DEFAULT_DETECTOR) -> FaceCrops:
    """Detect and crop the faces of a data set (already one split) for a model, or take them from the cache; raises DataError."""
    dataset.check_labels(model.spec.task)
    return face_crops(dataset, model.spec.crop, detector)


def predict_dataset(model: Model, dataset: Dataset, detector: str = DEFAULT_DETECTOR) -> Predictions:
    """Run the model over a data set (already one split); crops come from the cache. Raises DataError."""
    faces = dataset_faces(model, dataset, detector)
    return Predictions(predict(model, faces.crops), faces)


def joined(parts: Sequence[Readings]) -> Readings:
    """The readings of one model, concatenated."""
    sharp = [p.sharpness for p in parts if p.sharpness is not None]
    return Readings(
        np.concatenate([p.value for p in parts]),
        np.concatenate([p.probabilities for p in parts]),
        np.concatenate([p.embedding for p in parts]),
        parts[0].spec,
        np.concatenate(sharp) if sharp else None,
    )


def _batches(crops: Crops) -> Iterator[npt.NDArray[np.uint8]]:
    """The crops in batches of BATCH, in memory; shows a progress bar on a terminal."""
    for start in tqdm(range(0, len(crops), BATCH), desc="model", unit="batch", leave=False, disable=None):
        yield np.array(crops[start : start + BATCH])
