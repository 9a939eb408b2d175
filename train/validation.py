"""Measure a network on crops: mean absolute error, share within 5 units, and accuracy of the most likely word."""

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
    """Figures of one network on one split of a data set."""

    mae: float
    """Mean absolute error in the task's unit; for a band the distance to it."""
    cs5: float
    """Share of faces with an error of at most 5 units."""
    coarse: float
    """Share of faces whose most likely word is correct; for a band, any word whose bin it overlaps."""


def figures(network: NumCLIP, crops: Rows | Tensor, labels: Floats, words: TaskSpec) -> Figures:
    """Measure a network in eval mode on crops [N, S, S, 3] with labels [N], or lower and upper ends [N, 2].

    words: the task whose bins define `coarse`. For a network with one bin per unit, the probabilities within each of these bins
    are summed, so that all methods are measured alike.
    """
    said = predict(network, network.task.spec, crops, network.mean.device)
    error = distance_to(said.value.astype(np.float64), labels)
    word = coarse_bins(network.task.spec, said.probabilities.astype(np.float64), words)
    low, high = labels.T if labels.ndim == 2 else (labels, labels)
    right = (bins_of(low, words) <= word) & (word <= bins_of(high, words))
    return Figures(*(round(float(shares.mean()), 4) for shares in (error, error <= 5, right)))


def coarse_bins(task: TaskSpec, probabilities: Floats, words: TaskSpec) -> npt.NDArray[np.intp]:
    """Return the most likely bin of `words`, [N], from probabilities [N, K] over the bins of `task`, assigned by bin centers."""
    homes = bins_of(np.array(task.bin_centers), words)  # [K]
    mass = np.zeros((len(probabilities), words.num_bins))
    np.add.at(mass.T, homes, probabilities.T)
    return mass.argmax(axis=1)


def bins_of(labels: Floats, task: TaskSpec) -> npt.NDArray[np.intp]:
    """Return the bin of each label, [N]; labels outside fall into the first or last bin."""
    return np.searchsorted(np.array(task.bin_edges[1:-1]), labels, side="right")
