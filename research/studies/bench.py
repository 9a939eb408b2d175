"""What the studies train on: labelled pictures cut by the contract, seen once through a tower that stays as it is.

With `tower` frozen a picture is its features before the tower's last projection; they are computed once, kept in the
cache folder, and a run trains the projection and everything after it in seconds. With `tower` trained a picture is its
crop, and a run trains the whole network.
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...calibration.data.crop_cache import face_crops
from ...calibration.data.datasets import Dataset, Sample, open_data
from ...calibration.data.protocols import Protocol
from ...errors import UsageError
from ...runtime.faces.crops import scaled_crop
from ...runtime.places import cache_dir
from ...train.augment import center
from ...train.start_weights import is_layers
from ...train.tasks_file import Task, load_task
from ...train.towers import Towers, build_towers, input_side
from ...train.training_data import MARGIN, short_name

FORWARD = 64  # crops at a time through the frozen tower
PICTURES = 64  # on which a start's batch norms are measured


@dataclass(frozen=True)
class Settings:
    """What all runs of a study share."""

    data: tuple[str, ...] = ()
    task: str = "age"
    model: str = "nano"
    pretrained: str | None = None
    tower: str = "frozen"  # or trained
    faces: int | None = 6000  # training pictures per data set at most, at random
    steps: int = 200
    batch: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.05
    checkpoint: str | None = None  # a trained network to look at beside the others
    checkpoint_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """For the results file: names no machine's folders."""
        raw = asdict(self) | {"data": [short_name(d) for d in self.data]}
        files = {"pretrained": self.pretrained, "checkpoint": self.checkpoint}
        return raw | {name: None if path is None else Path(path).name for name, path in files.items()}


@dataclass(frozen=True, eq=False)
class Pictures:
    """N labelled pictures as a network's head takes them in."""

    inputs: Tensor  # float32 [N, F] features, or uint8 [N, S, S, 3] crops
    samples: tuple[Sample, ...]

    @property
    def labels(self) -> np.ndarray:
        """float64 [N], in the task's unit."""
        return np.array([s.label for s in self.samples], np.float64)

    def take(self, samples: tuple[Sample, ...]) -> Pictures:
        """Those of some of the samples."""
        place = {s.file: i for i, s in enumerate(self.samples)}
        return Pictures(self.inputs[torch.tensor([place[s.file] for s in samples], dtype=torch.long)], samples)


class Bench:
    """Data sets, task and tower of a study, each made when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.side = input_side(settings.model)
        self.data = [_with_splits(open_data(text)) for text in settings.data]

    @functools.cached_property
    def task(self) -> Task:
        return load_task(self.settings.task)

    @functools.lru_cache(maxsize=8)  # noqa: B019  (a bench lives as long as its study)
    def pictures(self, at: int, split: str) -> Pictures:
        """The `train` or `val` pictures of data set number `at`."""
        crops, samples = self.crops(at, split)
        if self.settings.tower == "trained":
            return Pictures(torch.from_numpy(crops), samples)
        return Pictures(self._features(crops), samples)

    def towers(self) -> Towers:
        """Towers to train, new from torch's random state; a frozen image tower is reduced to what follows its features."""
        settings = self.settings
        if settings.tower == "trained":
            return build_towers(settings.model, settings.pretrained, self._first_pictures)
        language = settings.pretrained if settings.pretrained and not is_layers(settings.pretrained) else None
        towers = build_towers(settings.model, language, self._first_pictures)
        towers.record["pretrained"] = Path(settings.pretrained).name if settings.pretrained else None
        return replace(towers, image=split_tower(towers.image)[1])

    @functools.cached_property
    def _first_pictures(self) -> Tensor:
        crops, _ = self.crops(0, "train")
        return torch.from_numpy(crops[np.linspace(0, len(crops) - 1, PICTURES).astype(int)])

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def crops(self, at: int, split: str) -> tuple[np.ndarray, tuple[Sample, ...]]:
        """uint8 [N, S, S, 3] and the samples; training pictures come from the crops with margin that a training keeps."""
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

    def _features(self, crops: np.ndarray) -> Tensor:
        """float32 [N, F] of the frozen tower, from the cache where they are there (keyed by tower and pixels)."""
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
    def _forward(self, trunk: nn.Module, crops: np.ndarray, mean: Tensor, std: Tensor) -> np.ndarray:
        found: list[np.ndarray] = []
        starts = range(0, len(crops), FORWARD)
        for start in tqdm(starts, desc="features", unit="batch", leave=False, disable=None):
            part = torch.from_numpy(crops[start : start + FORWARD]).to(self.device)
            pixels = (part.permute(0, 3, 1, 2).float() - mean) / std
            found.append(trunk(pixels.contiguous(memory_format=torch.channels_last)).float().cpu().numpy())
        return np.concatenate(found)

    @functools.cached_property
    def _trunk(self) -> tuple[nn.Module, Tensor, Tensor]:
        """The frozen part of the image tower with its weights, and its normalisation in pixel levels [1, 3, 1, 1]."""
        torch.manual_seed(0)
        towers = build_towers(self.settings.model, self.settings.pretrained, self._first_pictures)
        trunk = split_tower(towers.image)[0].eval().to(self.device).to(memory_format=torch.channels_last)
        mean, std = (
            255 * torch.tensor(towers.record[name], device=self.device).view(1, 3, 1, 1)
            for name in ("image_mean", "image_std")
        )
        return trunk, mean, std


def split_tower(tower: Any) -> tuple[nn.Module, nn.Module]:
    """What may stay frozen, and what follows it: trunk and projection of a timm tower, else the whole tower and nothing."""
    if hasattr(tower, "trunk") and hasattr(tower, "head"):
        return tower.trunk, tower.head
    return tower, nn.Identity()


def _with_splits(dataset: Dataset) -> Dataset:
    return Protocol().splits(dataset)
