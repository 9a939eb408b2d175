"""How good a network is on crops: mean absolute error, share within 5 units, and the coarse accuracy of the words."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..runtime.contract.spec import TaskSpec
from .network import NumCLIP

Floats = npt.NDArray[np.float64]
BATCH = 128


@torch.no_grad()
def predict(network: NumCLIP, crops: Any) -> tuple[Floats, Floats]:
    """Clipped values [N] and probabilities [N, K], float64, for uint8 crops [N, S, S, 3]; the network is in eval mode."""
    device, task = network.mean.device, network.task.spec
    bins = network.text_bins()
    values: list[Any] = []
    probabilities: list[Any] = []
    for start in range(0, len(crops), BATCH):
        part = torch.from_numpy(np.array(crops[start : start + BATCH])).to(device)
        outputs = network.read(network.embed(part), bins)
        values.append(outputs.value.float().cpu().numpy())
        probabilities.append(outputs.probabilities.float().cpu().numpy())
    value = np.concatenate(values).astype(np.float64)
    return np.clip(value, task.low, task.high), np.concatenate(probabilities).astype(np.float64)


def figures(network: NumCLIP, crops: Any, labels: Floats, words: TaskSpec) -> dict[str, float]:
    """`mae`, `cs5` and `coarse` on labelled crops.

    words: the task whose bins count for `coarse`, the share of faces whose bin is the likeliest. A network that has one
    bin per unit is asked for the sum of the probabilities within each of these bins, so that all methods are alike.
    """
    values, probabilities = predict(network, crops)
    error = np.abs(values - labels)
    return {
        "mae": round(float(error.mean()), 4),
        "cs5": round(float((error <= 5).mean()), 4),
        "coarse": round(
            float((coarse_bins(network.task.spec, probabilities, words) == bins_of(labels, words)).mean()), 4
        ),
    }


def coarse_bins(task: TaskSpec, probabilities: Floats, words: TaskSpec) -> npt.NDArray[np.intp]:
    """[N] the likeliest bin of `words`, from probabilities [N, K] over the bins of `task`, by where their centers lie."""
    homes = bins_of(np.array(task.bin_centers), words)  # [K]
    mass = np.zeros((len(probabilities), words.num_bins))
    np.add.at(mass.T, homes, probabilities.T)
    return mass.argmax(axis=1)


def bins_of(labels: Floats, task: TaskSpec) -> npt.NDArray[np.intp]:
    """[N] the bin of each label; what lies outside falls into the end bins."""
    return np.searchsorted(np.array(task.bin_edges[1:-1]), labels, side="right")
