"""How ordinal an embedding is: numbers for pictures and for text bins."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def cosine_distances(embeddings: Floats) -> Floats:
    """[N, N] 1 - cosine between the rows of [N, D]."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return 1 - unit @ unit.T


def ordinality(labels: Floats, embeddings: Floats) -> float:
    """Spearman's rank correlation, over all pairs, of |difference of labels| with the cosine distance of embeddings.

    1: the further apart two labels, the further apart their embeddings, always; 0: no relation. labels [N], embeddings
    [N, D]; needs scipy (the extra `study`).
    """
    from scipy.stats import spearmanr

    first, second = np.triu_indices(len(labels), k=1)
    found: Any = spearmanr(np.abs(labels[first] - labels[second]), cosine_distances(embeddings)[first, second])
    return float(found.statistic)


def falling_share(bins: Floats) -> float:
    """Of all steps from a bin's neighbour outwards, the share that leads further away from that bin.

    bins: [K, D] in the order of the scale. For every bin i and every j beyond it on either side, a step from j to the
    next one outwards should lower the similarity to i. 1: all do; one half is what chance gives. K >= 3.
    """
    distance = cosine_distances(bins)
    rises: list[bool] = []
    for i in range(len(bins)):
        for outwards in (distance[i, i + 1 :], distance[i, :i][::-1]):
            rises += list(np.diff(outwards) > 0)
    return float(np.mean(rises))
