"""What is measured where labels are bands: the share inside the band, inside it or the next one, and the distance to it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def distance_to(values: Floats, ends: Floats) -> Floats:
    """[N] how far values [N] lie from labels [N, 2], in the task's unit: 0 inside a band.

    A band of whole numbers, 20 to 29, is [20, 30): who is 29.9 is 29. An exact label has equal ends.
    """
    low, high = ends.T
    end = np.where(high > low, high + 1, high)
    return np.maximum(np.maximum(low - values, values - end), 0)
