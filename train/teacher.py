"""What trained networks say of the very crops that a network learns from: half of its labels, and words to be as sure of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ModelError
from .checkpoint import load_checkpoint
from .network import NumCLIP
from .tasks_file import Task


class Teachers:
    """The mean of some checkpoints, asked at every step, so that what is taught includes what augmentation does to a face."""

    def __init__(self, paths: Sequence[Path], task: Task, device: torch.device) -> None:
        """Raises ModelError if a checkpoint cannot be read, or if its bins are not the task's."""
        self.networks: list[tuple[NumCLIP, Tensor]] = []  # each with its text bins [K, D]
        for path in paths:
            network, _ = load_checkpoint(path)
            if network.task.spec.bin_edges != task.spec.bin_edges:
                raise ModelError(
                    f"--teacher {path}: expected a network with the bins of the task; train it on the same"
                )
            network = network.to(device).to(memory_format=torch.channels_last)
            with torch.no_grad():
                self.networks.append((network, network.text_bins()))

    @torch.no_grad()
    def read(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [N, S, S, 3], brought to each teacher's side: values [N] and probabilities of the words [N, K]."""
        values: list[Tensor] = []
        words: list[Tensor] = []
        pixels = crops.permute(0, 3, 1, 2).float()
        for network, text_bins in self.networks:
            side = int(network.record["image_side"])
            if crops.shape[1] != side:
                resized = functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
            else:
                resized = pixels
            outputs = network.read(network.embed(resized.permute(0, 2, 3, 1)), text_bins)
            values.append(outputs.value.float())
            words.append(outputs.logits.float().softmax(dim=1))
        return torch.stack(values).mean(0), torch.stack(words).mean(0)


def word_divergence(logits: Tensor, taught: Tensor) -> Tensor:
    """KL from the teachers' words [N, K] to a network's logits [N, K], the mean over the batch: 0 where they agree."""
    return functional.kl_div(logits.log_softmax(dim=1), taught, reduction="batchmean")
