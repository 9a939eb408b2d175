"""Measure the crop contract on data: the mean landmarks of aligned face crops, and the box rule of a detector without landmarks.

    python -m numclip.calibration.data.crop_template utkface:PATH [utkface:PATH …]

The template for age is the mean of YuNet's landmarks on the aligned UTKFace crops (train split), as fractions of the side. The
box rule for Haar is the median similarity transform from its box to the square that the landmarks give.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from ...runtime.contract.spec import CropSpec
from ...runtime.faces.crops import alignment
from ...runtime.faces.detect import HaarDetector
from ...runtime.faces.yunet import YuNetDetector
from .datasets import Dataset, open_data


def measure_template(dataset: Dataset) -> tuple[list[list[float]], int]:
    """The mean of YuNet's five landmarks over square aligned crops and their mirror images, [5][2] in [0, 1]; and n."""
    yunet = YuNetDetector()
    points = [
        faces.landmarks[0] / np.array(image.shape[1::-1])
        for image in (dataset.read(s) for s in dataset.samples)
        if len(faces := yunet.detect(image).largest()) and faces.landmarks is not None and faces.scores[0] > 0.8
    ]
    mean = np.mean(points, axis=0)  # [5, 2]
    mirrored = mean[[1, 0, 2, 4, 3]] * [-1, 1] + [1, 0]
    mean = (mean + mirrored) / 2
    return [[round(float(v), 4) for v in p] for p in mean], len(points)


def measure_box_rule(dataset: Dataset, crop: CropSpec) -> tuple[dict[str, float], int]:
    """Haar's box rule: medians of side ratio and center shift between its box and the aligned square."""
    yunet, haar = YuNetDetector(), HaarDetector()
    rules: list[list[float]] = []
    for sample in dataset.samples:
        image = dataset.read(sample)
        faces, boxes = yunet.detect(image).largest(), haar.detect(image).largest()
        if not len(faces) or not len(boxes) or faces.landmarks is None:
            continue
        matrix = alignment(faces.landmarks[0], crop)
        x0, y0, x1, y1 = boxes.boxes_xyxy[0]
        center = matrix @ np.array([(crop.side - 1) / 2, (crop.side - 1) / 2, 1]) + 0.5
        scale = float(np.hypot(matrix[0, 0], matrix[1, 0])) * crop.side / float(x1 - x0)
        shift = (center - [(x0 + x1) / 2, (y0 + y1) / 2]) / [x1 - x0, y1 - y0]
        if np.abs(shift).max() < 0.5:  # both found the same face
            rules.append([scale, *shift])
    names = ("scale", "shift_x", "shift_y")
    return {k: round(float(v), 4) for k, v in zip(names, np.median(rules, axis=0), strict=True)}, len(rules)


if __name__ == "__main__":
    for text in sys.argv[1:]:
        data = open_data(text).select("train")
        template, n = measure_template(data)
        print(text, "landmarks", json.dumps(template), "n", n, flush=True)
        spec = CropSpec(112, tuple((p[0], p[1]) for p in template))
        print(text, "haar", *measure_box_rule(data, spec), flush=True)
