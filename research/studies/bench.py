"""The studies' training inputs: contract crops of labelled pictures, or their features from a frozen tower.

With `tower` frozen, the input is a picture's features before the tower's last projection. They are computed once and cached, and
a run trains the projection and everything after it in seconds. With `tower` trained, the input is the crop, and a run trains the
whole network.
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.memory_format import convert_conv2d_weight_memory_format
from tqdm import tqdm

from ...calibration.data.crop_cache import face_crops
from ...calibration.data.datasets import Dataset, Sample, open_data
from ...calibration.data.protocols import Protocol
from ...errors import DataError, UsageError
from ...runtime.faces.crops import scaled_crop
from ...runtime.places import cache_dir
from ...train.augment import center
from ...train.tasks_file import Task, load_task
from ...train.tower_weights import read_start
from ...train.towers import Towers, build_towers, input_side
from ...train.training_data import MARGIN, short_name
from .settings import Settings

Crops = npt.NDArray[np.uint8]
FORWARD = 64  # crops per call of the frozen tower
PICTURES = 64  # number of crops for the batch-norm statistics of start weights


def without_folders(settings: Settings) -> Settings:
    """Remove local folders from a name for a results file; converted start weights get the name of their source."""
    start = None if settings.pretrained is None else read_start(Path(settings.pretrained))
    pretrained = start.name if start else None if settings.pretrained is None else Path(settings.pretrained).name
    checkpoint = None if settings.checkpoint is None else Path(settings.checkpoint).name
    data = tuple(short_name(d) for d in settings.data)
    return replace(settings, data=data, pretrained=pretrained, checkpoint=checkpoint)


@dataclass(frozen=True, eq=False)
class Pictures:
    """N labelled pictures in the form that the network's head takes."""

    inputs: Tensor  # float32 [N, F] features, or uint8 [N, S, S, 3] crops
    samples: tuple[Sample, ...]

    @property
    def labels(self) -> npt.NDArray[np.float64]:
        """float64 [N], in the task's unit."""
        return np.array([s.label for s in self.samples], np.float64)

    def take(self, samples: tuple[Sample, ...]) -> Pictures:
        """Select some of the samples."""
        place = {s.file: i for i, s in enumerate(self.samples)}
        return Pictures(self.inputs[torch.tensor([place[s.file] for s in samples], dtype=torch.long)], samples)


class Bench:
    """Data sets, task and tower of a study, each created on first use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.side = input_side(settings.model)
        self.data = [_with_splits(open_data(text)) for text in settings.data]

    @functools.cached_property
    def task(self) -> Task:
        return load_task(self.settings.task)

    @functools.lru_cache(maxsize=8)  # noqa: B019  (a bench exists as long as its study)
    def pictures(self, at: int, split: str) -> Pictures:
        """Return the `train` or `val` pictures of data set number `at`."""
        crops, samples = self.crops(at, split)
        if self.settings.tower == "trained":
            return Pictures(torch.from_numpy(crops), samples)
        return Pictures(self._features(crops), samples)

    def towers(self) -> Towers:
        """Build new towers from torch's random state; a frozen image tower is reduced to the part after its features."""
        settings = self.settings
        if settings.tower == "trained":
            return build_towers(settings.model, settings.pretrained, self._first_pictures)
        start = None if settings.pretrained is None else read_start(Path(settings.pretrained))
        towers = build_towers(settings.model, None if start else settings.pretrained, self._first_pictures)
        record = replace(towers.record, pretrained=without_folders(settings).pretrained)
        return replace(towers, image=split_tower(towers.image)[1], record=record)

    @functools.cached_property
    def _first_pictures(self) -> Tensor:
        crops, _ = self.crops(0, "train")
        return torch.from_numpy(crops[np.linspace(0, len(crops) - 1, PICTURES).astype(int)])

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def crops(self, at: int, split: str) -> tuple[Crops, tuple[Sample, ...]]:
        """Return crops uint8 [N, S, S, 3] and their samples; training pictures come from the training's cached crops with margin."""
        if at >= len(self.data):
            raise UsageError(f"expected at least {at + 1} --data sets for this study, got {len(self.data)}")
        dataset, crop = self.data[at].select(split), self.task.crop(self.side)
        if split != "train":
            faces = face_crops(dataset, crop)
            return np.array(faces.crops), faces.samples
        faces = face_crops(dataset.without_copies(), scaled_crop(crop, 2 * round(crop.side * MARGIN / 2)))
        chosen = Protocol(limit=self.settings.faces).training(faces.samples)
        place = {s.file: i for i, s in enumerate(faces.samples)}
        crops = [center(np.asarray(faces.crops[place[s.file]]), crop.side, crop.side) for s in chosen]
        return np.stack(crops), chosen

    def _features(self, crops: Crops) -> Tensor:
        """Return the frozen tower's features, float32 [N, F], from the cache if present (keyed by tower and pixels)."""
        trunk, mean, std = self._trunk
        key = hashlib.sha256(crops.tobytes())
        for name, tensor in trunk.state_dict().items():
            key.update(name.encode() + tensor.cpu().numpy().tobytes())
        path = cache_dir() / "features" / f"{key.hexdigest()[:20]}.npy"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{os.getpid()}-{path.name}")
            np.save(temporary, self._forward(trunk, crops, mean, std))
            os.replace(temporary, path)
        return torch.from_numpy(np.load(path)).to(self.device)

    @torch.inference_mode()
    def _forward(self, trunk: nn.Module, crops: Crops, mean: Tensor, std: Tensor) -> npt.NDArray[np.float32]:
        found: list[npt.NDArray[np.float32]] = []
        starts = range(0, len(crops), FORWARD)
        for start in tqdm(starts, desc="features", unit="batch", leave=False, disable=None):
            part = torch.from_numpy(crops[start : start + FORWARD]).to(self.device)
            pixels = (part.permute(0, 3, 1, 2).float() - mean) / std
            found.append(trunk(pixels.contiguous(memory_format=torch.channels_last)).float().cpu().numpy())
        return np.concatenate(found)

    @functools.cached_property
    def _trunk(self) -> tuple[nn.Module, Tensor, Tensor]:
        """Return the frozen part of the image tower with its weights, and its normalisation in pixel levels [1, 3, 1, 1]."""
        torch.manual_seed(0)
        towers = build_towers(self.settings.model, self.settings.pretrained, self._first_pictures)
        trunk = split_tower(towers.image)[0].eval().to(self.device)
        convert_conv2d_weight_memory_format(trunk, torch.channels_last)
        facts = (towers.record.image_mean, towers.record.image_std)
        mean, std = (255 * torch.tensor(fact, device=self.device).view(1, 3, 1, 1) for fact in facts)
        return trunk, mean, std


def split_tower(tower: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Split a tower into the part to freeze and the part after it: trunk and projection of a timm tower, else all and nothing."""
    trunk, head = getattr(tower, "trunk", None), getattr(tower, "head", None)
    if isinstance(trunk, nn.Module) and isinstance(head, nn.Module):
        return trunk, head
    return tower, nn.Identity()


def _with_splits(dataset: Dataset) -> Dataset:
    """The data set with train, val and test; raises DataError for bands, because the studies' errors are those of exact labels."""
    if dataset.banded:
        raise DataError(f"{dataset.name}: the studies need exact labels, but it has bands; leave it out")
    return Protocol().splits(dataset)
