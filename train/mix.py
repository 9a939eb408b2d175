"""Mix checkpoints of one network: the weighted mean of their weights, in one checkpoint.

A network that was fine-tuned on further data, mixed with the one that it started from, keeps most of what both know (Wortsman et al.,
"Robust fine-tuning of zero-shot models", CVPR 2022). The mix takes as long to run as one of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..calibration.data.datasets import open_data
from ..errors import ModelError
from .checkpoint import load_checkpoint, save_checkpoint
from .fit import BEST, TrainResult, by_figure, keep_some
from .options import TrainOptions
from .training_data import split_faces
from .validation import figures


def mix(parts: Sequence[tuple[Path, float]], options: TrainOptions) -> TrainResult:
    """Write the mix of checkpoints to `options.out`, with its errors on the split `options.select` of `options.data`.

    parts: checkpoints and their shares, which sum to 1. The rest of the record is the last one's. Raises ModelError if the networks
    differ.
    """
    if not math.isclose(sum(share for _, share in parts), 1):
        raise ValueError(f"expected shares that sum to 1, got {[share for _, share in parts]}")
    loaded = [load_checkpoint(path) for path, _ in parts]
    network, record = loaded[-1]
    if any(each.task != network.task or each.record.name != network.record.name for each, _ in loaded):
        names = " and ".join(str(path) for path, _ in parts)
        raise ModelError(
            f"expected checkpoints of one network to mix, got different ones: {names}; train one from the other"
        )
    states = [(each.state_dict(), share) for (each, _), (_, share) in zip(loaded, parts, strict=True)]
    network.load_state_dict(
        {
            name: sum(share * state[name] for state, share in states) if value.is_floating_point() else value
            for name, value in states[-1][0].items()
        }
    )
    crop = network.task.crop(network.record.image_side)
    faces = [split_faces(open_data(d), options.select, crop, options.smoke, options.protocol()) for d in options.data]
    found = {v.name: figures(network, v.crops, v.labels, network.task.spec) for v in faces}
    mixed = {path.parent.name: share for path, share in parts}
    options.out.mkdir(parents=True, exist_ok=True)
    out = options.out / BEST
    save_checkpoint(out, network, replace(record, **by_figure(found), flags={**record.flags, "mixed": mixed}))
    keep_some(out, options.select, faces)
    mean = float(np.mean([f.mae for f in found.values()]))
    n = sum(counts.n for counts in record.data.values())
    return TrainResult(options.out, network.task.spec.unit, options.select, record.epoch, mean, found, n)
