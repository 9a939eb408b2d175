"""Predict ages of labelled faces with HSE-FaceRes as its authors published it, for distillation:

    python -m numclip.research.faceres_ages faceres-deep.json --data fairface:fairface.tar --out faceres.json

The file holds a value in years and the probability of each word for every training picture. Give it to
`numclip train --teacher faceres.json --teach-once`, or to `--recipe age-open`. The network gives a probability for each year from 1 to 100. The value is
the mean of that distribution. The crop is 9/7 times as wide as the task's, at 176 px, the width that HSE-FaceRes was trained on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.memory_format import convert_conv2d_weight_memory_format

from ..calibration.data.crop_cache import face_crops
from ..calibration.data.datasets import DATA_FORMS, open_data
from ..errors import ModelError, NumclipError
from ..runtime.contract.licences import Licence
from ..runtime.places import write_json
from ..train.batches import Rows
from ..train.records import Predictions, to_json
from ..train.tasks_file import load_task
from ..train.towers import build_towers
from .exit_code import complain
from .start_weights import CONVERTERS, fill_layers, read_tfjs, read_tfjs_weights

SIDE_PX, COVERAGE, BATCH = 176, 9 / 7, 64


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; returns 0, or 1 or 2 after one sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m numclip.research.faceres_ages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="the published TensorFlow.js graph, faceres-deep.json")
    parser.add_argument("--data", required=True, metavar="DATA", help=f"labelled faces: {DATA_FORMS}")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.json", help="file to write")
    args = parser.parse_args(argv)
    try:
        n = write_ages(args.file, args.data, args.out)
    except NumclipError as error:
        return complain(error)
    print(f"{args.out}: predictions for {n} faces")
    return 0


def write_ages(file: Path, data: str, out: Path) -> int:
    """Write the predictions for the `train` split of one data set; returns their number. Raises NumclipError."""
    task = load_task("age")
    network = FaceRes(file)
    faces = face_crops(open_data(data).select("train").without_copies(), task.covering(COVERAGE).crop(SIDE_PX))
    years = network.predict(faces.crops)
    ages = np.arange(1, years.shape[1] + 1)
    bins = np.array([task.spec.bin_of(age) for age in ages])
    words = np.stack([years[:, bins == k].sum(axis=1) for k in range(task.spec.num_bins)], axis=1)
    rows = np.concatenate([(years @ ages)[:, None], words], axis=1).round(5)
    by_file = {s.file: tuple(row) for s, row in zip(faces.samples, rows.tolist(), strict=True)}
    source = CONVERTERS["faceres"]
    write_json(out, to_json(Predictions(file.name, Licence(source.licence, source.note), task.spec.words, by_file)))
    return len(faces.samples)


class FaceRes:
    """HSE-FaceRes as published: a MobileNet and two dense layers, to a softmax over years."""

    def __init__(self, file: Path) -> None:
        """Read the TensorFlow.js graph and its weights; raises ModelError."""
        trunk: nn.Module = build_towers("small", None, torch.empty(0)).image.get_submodule("trunk")
        fill_layers(trunk, read_tfjs(file), file)
        self.trunk = convert_conv2d_weight_memory_format(trunk.eval(), torch.channels_last)
        try:
            weights = dict(read_tfjs_weights(file))
            self.dense = [(weights[f"{name}/kernel"], weights[f"{name}/bias"]) for name in ("feats", "age_pred")]
        except KeyError as error:
            raise ModelError(
                f"{file}: expected the weights of HSE-FaceRes's age output, found none ({error})"
            ) from None

    @torch.inference_mode()
    def predict(self, crops: Rows) -> npt.NDArray[np.float64]:
        """Return the probability of each year from 1, [N, 100], of crops uint8 [N, S, S, 3] RGB."""
        found = [self._years(np.array(crops[at : at + BATCH])) for at in range(0, len(crops), BATCH)]
        return torch.cat(found).double().numpy()

    def _years(self, crops: npt.NDArray[np.uint8]) -> Tensor:
        pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1
        features = self.trunk(pixels)
        (kernel, bias), (last, offset) = self.dense
        return (torch.relu(features @ kernel + bias) @ last + offset).softmax(1)


if __name__ == "__main__":
    sys.exit(main())
