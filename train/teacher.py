"""Distillation: teacher networks give half of each target value, and bin probabilities for the student to match."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.memory_format import convert_conv2d_weight_memory_format

from ..calibration.data.samples import Sample
from ..errors import DataError, ModelError
from .batches import Rows
from .checkpoint import load_checkpoint
from .checkpoint_model import predict
from .losses import upper_end
from .network import NumCLIP
from .records import Predictions, from_json
from .tasks_file import Task
from .training_data import Ask, Cut, Floats

AGAIN = "write the file again for the same --data: python -m numclip.research.faceres_ages"


def ask_once(paths: Sequence[Path], task: Task, device: torch.device) -> Ask:
    """Return a function that gives the teachers' value and bin probabilities for faces, [N, 1 + K].

    A teacher is a checkpoint, which is run, or a file of another network's predictions (.json), which are looked up. The outputs
    are averaged over the teachers and, for checkpoints, over each face and its mirror image.

    Each checkpoint gets its own crop, without augmentation. Raises ModelError if a file cannot be read or has other bins; the
    function raises DataError for a face without a prediction.
    """
    tables = [(p, _table(p, task)) for p in paths if is_table(p)]
    checkpoints = [_teacher(p, task) for p in paths if not is_table(p)]
    networks = [convert_conv2d_weight_memory_format(n.to(device), torch.channels_last) for n in checkpoints]

    def ask(samples: Sequence[Sample], cut: Cut) -> Floats:
        found = [_looked_up(path, table, samples) for path, table in tables]
        for network in networks:
            crops = cut(network.task.crop(network.record.image_side))
            for look in (crops, Mirrored(crops)):
                said = predict(network, network.task.spec, look, device)
                found.append(np.concatenate([said.value[:, None], said.probabilities], axis=1).astype(np.float64))
        return np.mean(found, axis=0)

    return ask


def is_table(path: Path) -> bool:
    """Whether a teacher is a file of another network's predictions, instead of a checkpoint."""
    return path.suffix == ".json"


def read_predictions(path: Path) -> Predictions:
    """Read another network's predictions; raises ModelError if they cannot be read."""
    try:
        found = from_json(Predictions, json.loads(path.read_text()), str(path))
    except (OSError, ValueError) as error:
        raise ModelError(f"--teacher {path}: expected a file of predictions, got an error: {error}; {AGAIN}") from None
    short = next((file for file, row in found.faces.items() if len(row) != 1 + len(found.words)), None)
    if short is not None:
        expected, got = 1 + len(found.words), len(found.faces[short])
        raise ModelError(f"--teacher {path}: expected {expected} numbers for {short}, got {got}; {AGAIN}")
    return found


def _table(path: Path, task: Task) -> Predictions:
    """Read predictions to learn from; raises ModelError if they are for other words than the task's."""
    found = read_predictions(path)
    if found.words != task.spec.words:
        raise ModelError(
            f"--teacher {path}: expected predictions for the task's words, {', '.join(task.spec.words)}, got "
            f"{', '.join(found.words)}; {AGAIN}"
        )
    return found


def _looked_up(path: Path, table: Predictions, samples: Sequence[Sample]) -> Floats:
    missing = next((s.file for s in samples if s.file not in table.faces), None)
    if missing is not None:
        raise DataError(
            f"--teacher {path}: expected a prediction for every training face, got none for {missing}; {AGAIN}"
        )
    return np.array([table.faces[s.file] for s in samples], np.float64).reshape(len(samples), 1 + len(table.words))


class Mirrored:
    """Mirrored crops [N, S, S, 3], read on demand."""

    def __init__(self, crops: Rows) -> None:
        self.crops, self.shape = crops, crops.shape

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, at: slice) -> npt.NDArray[np.uint8]:
        return self.crops[at][:, :, ::-1]


def _teacher(path: Path, task: Task) -> NumCLIP:
    network, _ = load_checkpoint(path)
    if network.task.spec.bin_edges != task.spec.bin_edges:
        raise ModelError(
            f"--teacher {path}: expected a network with the same bins as the task; choose a teacher trained on this task"
        )
    return network


class Teachers:
    """Teachers that run at every step, on the student's augmented crops; their outputs are averaged."""

    def __init__(self, paths: Sequence[Path], task: Task, device: torch.device) -> None:
        """Raises ModelError if a checkpoint cannot be read, has other bins than the task, or needs a wider crop."""
        # each with its text bins [K, D] and the width of its own crop as a share of the student's
        self.networks: list[tuple[NumCLIP, Tensor, float]] = []
        for path in paths:
            network = _teacher(path, task)
            share = _width(task) / _width(network.task)
            if share > 1 + 1e-9:
                raise ModelError(
                    f"--teacher {path}: expected a teacher whose crop is not wider than the student's, got one that is "
                    f"{share:.2f} times as wide; raise --coverage, or add --teach-once"
                )
            network = convert_conv2d_weight_memory_format(network.to(device), torch.channels_last)
            with torch.no_grad():
                self.networks.append((network, network.text_bins(), share))

    @torch.no_grad()
    def read(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Return values [N] and bin probabilities [N, K] of crops uint8 [N, S, S, 3]; each teacher sees the central part that is
        its own crop, resized to its input side."""
        values: list[Tensor] = []
        words: list[Tensor] = []
        pixels = crops.permute(0, 3, 1, 2).float()
        for network, text_bins, share in self.networks:
            side, around = network.record.image_side, round(crops.shape[1] * (1 - share) / 2)
            resized = pixels[..., around : crops.shape[1] - around, around : crops.shape[2] - around]
            if resized.shape[2] != side:
                resized = functional.interpolate(resized, (side, side), mode="bilinear", antialias=True)
            outputs = network.read(network.embed(resized.permute(0, 2, 3, 1)), text_bins)
            values.append(outputs.value.float())
            words.append(outputs.logits.float().softmax(dim=1))
        return torch.stack(values).mean(0), torch.stack(words).mean(0)


def _width(task: Task) -> float:
    """Return the size of the face in the task's crops: the distance between the eyes, as a share of the side."""
    return task.landmarks[1][0] - task.landmarks[0][0]


def sought(ends: Tensor, taught: Tensor) -> tuple[Tensor, Tensor]:
    """Return the targets for words and for the value, ends [N, 2] each, from labels [N, 2] and the teachers' values [N].

    Exact label: both targets are the mean of the label and the teachers' value. Band: the words' target is the band; the
    value's target is the teachers' value, clipped into the band.
    """
    exact = (ends[:, 0] == ends[:, 1])[:, None]
    number = taught.to(ends.dtype)[:, None]
    mean = (ends + number) / 2
    return torch.where(exact, mean, ends), torch.where(exact, mean, number.clamp(ends[:, :1], upper_end(ends)[:, None]))


def inside_bands(words: Tensor, shares: Tensor) -> Tensor:
    """Restrict the teachers' bin probabilities [N, K] to the bins of a band and renormalise; exact labels stay unchanged.

    shares: [N, K], share of each label in each bin. They take over where the teachers' probability inside is almost 0.
    """
    right = shares > 0
    inside = words * right + 1e-4 * shares
    inside = inside / inside.sum(dim=1, keepdim=True)
    return torch.where((right.sum(dim=1) == 1)[:, None], words, inside)


def word_divergence(logits: Tensor, taught: Tensor) -> Tensor:
    """Return the KL divergence of the student's logits [N, K] from the teachers' probabilities [N, K], averaged over the batch."""
    return functional.kl_div(logits.log_softmax(dim=1), taught, reduction="batchmean")
