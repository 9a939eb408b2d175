"""The distance of a value from a label that may be a band, 0 inside it; so errors of exact labels and bands can be averaged.

Labels are exact [N], or ends [N, 2], equal if exact. A band of whole numbers, 20 to 29, is [20, 30): somebody of 29.9 is 29.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def distance_to(values: Floats, labels: Floats) -> Floats:
    """The distances [N] of values [N] from labels, in the task's unit."""
    return np.abs(signed_distance(values, labels))


def signed_distance(values: Floats, labels: Floats) -> Floats:
    """The signed distances [N], negative if the value is below the label."""
    if labels.ndim == 1:
        return values - labels
    low, high = labels.T
    return values - np.clip(values, low, np.where(high > low, high + 1, high))
