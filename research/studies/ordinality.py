"""Measures of how well an embedding preserves the order of labels, for pictures and for text bins."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def cosine_distances(embeddings: Floats) -> Floats:
    """Return 1 - cosine between the rows of [N, D], [N, N]."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return 1 - unit @ unit.T


def ordinality(labels: Floats, embeddings: Floats) -> float:
    """Return Spearman's rank correlation, over all pairs, of |difference of labels| and the cosine distance of embeddings.

    1: a larger difference of labels always means a larger distance of embeddings; 0: no relation. labels [N], embeddings
    [N, D]; needs scipy (the extra `study`).
    """
    from scipy.stats import spearmanr

    first, second = np.triu_indices(len(labels), k=1)
    found: Any = spearmanr(np.abs(labels[first] - labels[second]), cosine_distances(embeddings)[first, second])
    return float(found.statistic)


def falling_share(bins: Floats) -> float:
    """Return the share of outward steps from a bin, from its neighbour on, that lower the similarity to it.

    bins: [K, D] in the order of the scale. For every bin i and every other bin j, the step from j to the next bin further
    from i should lower the similarity to i. 1: every step does; 0.5: chance. K >= 3.
    """
    distance = cosine_distances(bins)
    rises: list[bool] = []
    for i in range(len(bins)):
        for outwards in (distance[i, i + 1 :], distance[i, :i][::-1]):
            rises += list(np.diff(outwards) > 0)
    return float(np.mean(rises))
