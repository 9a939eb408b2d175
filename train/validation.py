"""How good a network is on crops: mean absolute error, share within 5 units, and the coarse accuracy of the words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..calibration.measure.distance import distance_to
from ..runtime.contract.spec import TaskSpec
from .batches import Rows
from .checkpoint_model import predict
from .network import NumCLIP

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Figures:
    """The figures of one network on one data set's split."""

    mae: float
    """Mean absolute error in the task's unit; of a band the distance to it."""
    cs5: float
    """Share of faces that are off by at most 5 units."""
    coarse: float
    """Share of faces whose likeliest word is the right one; of a band any that it reaches into."""


def figures(network: NumCLIP, crops: Rows | Tensor, labels: Floats, words: TaskSpec) -> Figures:
    """The figures of a network in eval mode on labelled crops [N, S, S, 3]; labels [N], or the ends of bands [N, 2].

    words: the task whose bins count for `coarse`. A network that has one bin per unit is asked for the sum of the
    probabilities within each of these bins, so that all methods are alike.
    """
    said = predict(network, network.task.spec, crops, network.mean.device)
    error = distance_to(said.value.astype(np.float64), labels)
    word = coarse_bins(network.task.spec, said.probabilities.astype(np.float64), words)
    low, high = labels.T if labels.ndim == 2 else (labels, labels)
    right = (bins_of(low, words) <= word) & (word <= bins_of(high, words))
    return Figures(*(round(float(shares.mean()), 4) for shares in (error, error <= 5, right)))


def coarse_bins(task: TaskSpec, probabilities: Floats, words: TaskSpec) -> npt.NDArray[np.intp]:
    """[N] the likeliest bin of `words`, from probabilities [N, K] over the bins of `task`, by where their centers lie."""
    homes = bins_of(np.array(task.bin_centers), words)  # [K]
    mass = np.zeros((len(probabilities), words.num_bins))
    np.add.at(mass.T, homes, probabilities.T)
    return mass.argmax(axis=1)


def bins_of(labels: Floats, task: TaskSpec) -> npt.NDArray[np.intp]:
    """[N] the bin of each label; what lies outside falls into the end bins."""
    return np.searchsorted(np.array(task.bin_edges[1:-1]), labels, side="right")
