"""What trained networks say of the very crops that a network learns from: half of its labels, and words to be as sure of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.memory_format import convert_conv2d_weight_memory_format

from ..errors import ModelError
from .batches import Rows
from .checkpoint import load_checkpoint
from .checkpoint_model import predict
from .network import NumCLIP
from .tasks_file import Task
from .training_data import Cut, Floats


def ask_once(paths: Sequence[Path], task: Task, device: torch.device) -> Callable[[Cut], Floats]:
    """A way to ask checkpoints for faces: [N, 1 + K] the mean number and words over networks and mirror images.

    Each sees its own crop, plain. Raises ModelError if a checkpoint cannot be read or its bins are not the task's.
    """
    networks = [convert_conv2d_weight_memory_format(_teacher(p, task).to(device), torch.channels_last) for p in paths]

    def ask(cut: Cut) -> Floats:
        found: list[Floats] = []
        for network in networks:
            crops = cut(network.task.crop(network.record.image_side))
            for look in (crops, Mirrored(crops)):
                said = predict(network, network.task.spec, look, device)
                found.append(np.concatenate([said.value[:, None], said.probabilities], axis=1).astype(np.float64))
        return np.mean(found, axis=0)

    return ask


class Mirrored:
    """Crops [N, S, S, 3] seen in a mirror, read as they are needed."""

    def __init__(self, crops: Rows) -> None:
        self.crops, self.shape = crops, crops.shape

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, at: slice) -> npt.NDArray[np.uint8]:
        return self.crops[at][:, :, ::-1]


def _teacher(path: Path, task: Task) -> NumCLIP:
    network, _ = load_checkpoint(path)
    if network.task.spec.bin_edges != task.spec.bin_edges:
        raise ModelError(f"--teacher {path}: expected a network with the bins of the task; train it on the same")
    return network


class Teachers:
    """The mean of some checkpoints, asked at every step, so that what is taught includes what augmentation does to a face."""

    def __init__(self, paths: Sequence[Path], task: Task, device: torch.device) -> None:
        """Raises ModelError if a checkpoint cannot be read, if its bins are not the task's, or if it sees more of a face."""
        # each with its text bins [K, D] and how much of a crop, across, is its own crop
        self.networks: list[tuple[NumCLIP, Tensor, float]] = []
        for path in paths:
            network = _teacher(path, task)
            share = _width(task) / _width(network.task)
            if share > 1 + 1e-9:
                raise ModelError(
                    f"--teacher {path}: expected a network whose crops show no more than those it teaches, got "
                    f"{share:.2f} times as much; raise --coverage as far or say --teach-once"
                )
            network = convert_conv2d_weight_memory_format(network.to(device), torch.channels_last)
            with torch.no_grad():
                self.networks.append((network, network.text_bins(), share))

    @torch.no_grad()
    def read(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [N, S, S, 3]: values [N] and probabilities of the words [N, K]; each teacher sees its own crop, the middle of
        these, at its own side."""
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
    """How wide the face lies in the task's crops: the distance between the eyes, as a share of the side."""
    return task.landmarks[1][0] - task.landmarks[0][0]


def sought(ends: Tensor, taught: Tensor) -> tuple[Tensor, Tensor]:
    """What a network learns from labels [N, 2] and its teachers' numbers [N]: ends for its words and for its value, [N, 2] each.

    An exact label: the middle between it and the teachers' number, for both. A band: itself for the words, and for the
    value the teachers' number, clipped into it.
    """
    exact = (ends[:, 0] == ends[:, 1])[:, None]
    number = taught.to(ends.dtype)[:, None]
    mean = (ends + number) / 2
    return torch.where(exact, mean, ends), torch.where(exact, mean, number.clamp(ends[:, :1], ends[:, 1:]))


def inside_bands(words: Tensor, shares: Tensor) -> Tensor:
    """Teachers' words [N, K] with what lies outside the bins of a band taken away, summing to 1 again; an exact label's as they are.

    shares: [N, K] of each label in each bin. Where next to nothing lies inside, the band's own shares stand in.
    """
    right = shares > 0
    inside = words * right + 1e-4 * shares
    inside = inside / inside.sum(dim=1, keepdim=True)
    return torch.where((right.sum(dim=1) == 1)[:, None], words, inside)


def word_divergence(logits: Tensor, taught: Tensor) -> Tensor:
    """KL from the teachers' words [N, K] to a network's logits [N, K], the mean over the batch: 0 where they agree."""
    return functional.kl_div(logits.log_softmax(dim=1), taught, reduction="batchmean")
