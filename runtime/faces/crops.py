"""The crop contract: the one function that turns detected faces into what the model reads.

Training, evaluation and running all call `crop_faces`, so a face is cut the same way everywhere. With landmarks the crop
is aligned: the similarity transform (least squares over all five points) from the landmarks to the template in the
spec. Without them the detector's box is used through the spec's box rule. This is also the one place where BGR becomes
RGB.
"""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ..contract.spec import BoxRule, CropSpec
from .detect import WHOLE, Detections

Image = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]

MAX_SAMPLING_SCALE = 2.0  # source px per crop px left for bilinear sampling, after shrinking by area


def crop_faces(image: Image, detections: Detections, crop: CropSpec, detector_name: str) -> Image:
    """Cut the F detected faces out of one picture.

    image: [H, W, 3] uint8 BGR. Returns [F, S, S, 3] uint8 RGB, in the order of the detections.
    Raises ModelError when the detector gives no landmarks and the spec has no box rule for it.
    """
    crops = np.empty((len(detections), crop.side, crop.side, 3), np.uint8)
    for i in range(len(detections)):
        if detector_name == WHOLE:
            crops[i] = squeeze(image, box_rule(crop, WHOLE), crop.side)[:, :, ::-1]
            continue
        if detections.landmarks is not None:
            to_source = alignment(detections.landmarks[i], crop)
        else:
            to_source = box_transform(detections.boxes_xyxy[i], box_rule(crop, detector_name), crop.side)
        crops[i] = cut(image, to_source, crop.side)[:, :, ::-1]
    return crops


def squeeze(image: Image, rule: BoxRule, side: int) -> Image:
    """[side, side, 3] the whole picture squeezed to a square, of which `rule.scale` is kept; above 1 borders replicate."""
    inner = max(1, round(side / rule.scale))
    way = cv2.INTER_AREA if min(image.shape[:2]) > inner else cv2.INTER_LINEAR
    square = cv2.resize(image, (inner, inner), interpolation=way)
    if inner >= side:
        start = (inner - side) // 2
        return np.asarray(square[start : start + side, start : start + side], np.uint8)
    before = (side - inner) // 2
    after = side - inner - before
    return np.asarray(cv2.copyMakeBorder(square, before, after, before, after, cv2.BORDER_REPLICATE), np.uint8)


def box_rule(crop: CropSpec, detector_name: str) -> BoxRule:
    """The spec's rule for a detector without landmarks; raises ModelError when there is none."""
    rule = crop.box_rules.get(detector_name)
    if rule is None:
        known = ", ".join(sorted(crop.box_rules)) or "none"
        raise ModelError(
            f"expected a detector that gives landmarks, or one whose boxes the model knows how to crop ({known}), got "
            f"{detector_name!r}; use --detector faces-nano"
        )
    return rule


def template_px(crop: CropSpec) -> Matrix:
    """[5, 2] where the landmarks belong in the crop, in px, (0, 0) being the center of the first pixel."""
    return np.asarray(crop.landmarks, np.float64) * crop.side - 0.5


def scaled_crop(crop: CropSpec, side: int) -> CropSpec:
    """The same crop with more (or less) around it: same px per face, another side."""
    return replace(covering(crop, side / crop.side), side=side)


def covering(crop: CropSpec, coverage: float) -> CropSpec:
    """The same side with `coverage` times as much of the picture across it: the face smaller, more around it."""
    points = tuple(((x - 0.5) / coverage + 0.5, (y - 0.5) / coverage + 0.5) for x, y in crop.landmarks)
    rules = {k: replace(r, scale=r.scale * coverage) for k, r in crop.box_rules.items()}
    return replace(crop, landmarks=points, box_rules=rules)


def alignment(landmarks: npt.NDArray[np.float32], crop: CropSpec) -> Matrix:
    """[2, 3] affine matrix from crop px to source px: the similarity that fits all five landmarks best.

    landmarks: [5, 2] px in the source, measured from the corner of the first pixel. As complex numbers a similarity is
    z -> a z + b, and least squares over the points has a closed form.
    """
    target = template_px(crop) @ np.array([1, 1j])  # [5]
    source = (np.asarray(landmarks, np.float64) - 0.5) @ np.array([1, 1j])  # [5]
    centered = target - target.mean()
    a = (centered.conj() @ (source - source.mean())) / (centered.conj() @ centered).real
    b = source.mean() - a * target.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def box_transform(box_xyxy: npt.NDArray[np.float32], rule: BoxRule, side: int) -> Matrix:
    """[2, 3] affine matrix from crop px to source px for an upright square around a box."""
    x0, y0, x1, y1 = (float(v) for v in box_xyxy)
    width, height = x1 - x0, y1 - y0
    scale = rule.scale * (width + height) / 2 / side  # source px per crop px
    left = (x0 + x1) / 2 + rule.shift_x * width - scale * side / 2
    top = (y0 + y1) / 2 + rule.shift_y * height - scale * side / 2
    return np.array([[scale, 0, left + scale * 0.5 - 0.5], [0, scale, top + scale * 0.5 - 0.5]])


def cut(image: Image, to_source: Matrix, side: int) -> Image:
    """Sample a [side, side, 3] square through an affine matrix from crop px to source px; outside replicates the border.

    The part of the source that is needed is first shrunk by area until at most MAX_SAMPLING_SCALE source px remain per
    crop px, so that large faces do not alias.
    """
    scale = math.hypot(to_source[0, 0], to_source[1, 0])
    shrink = scale / MAX_SAMPLING_SCALE
    if shrink > 1:
        image, to_source = _shrink(image, to_source, side, shrink)
    return np.asarray(
        cv2.warpAffine(
            image,
            to_source,
            (side, side),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.uint8,
    )


def _shrink(image: Image, to_source: Matrix, side: int, shrink: float) -> tuple[Image, Matrix]:
    """The needed region of the picture, shrunk by area, and the matrix that now reads it."""
    last = side - 1
    corners = to_source @ np.array([[0, last, 0, last], [0, 0, last, last], [1, 1, 1, 1]], np.float64)  # [2, 4]
    margin = math.ceil(2 * shrink)
    height, width = image.shape[:2]
    x0 = int(np.clip(math.floor(corners[0].min()) - margin, 0, width - 1))
    y0 = int(np.clip(math.floor(corners[1].min()) - margin, 0, height - 1))
    x1 = int(np.clip(math.ceil(corners[0].max()) + margin + 1, x0 + 1, width))
    y1 = int(np.clip(math.ceil(corners[1].max()) + margin + 1, y0 + 1, height))
    region = image[y0:y1, x0:x1]
    new_w, new_h = max(1, round((x1 - x0) / shrink)), max(1, round((y1 - y0) / shrink))
    ratio = np.array([new_w / (x1 - x0), new_h / (y1 - y0)])
    small = np.asarray(cv2.resize(region, (new_w, new_h), interpolation=cv2.INTER_AREA), np.uint8)
    matrix = to_source.copy()
    matrix[:, 2] += 0.5 - np.array([x0, y0])  # from pixel centers to corners of the region
    matrix *= ratio[:, None]
    matrix[:, 2] -= 0.5
    return small, matrix
