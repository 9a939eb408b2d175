"""Worse pictures of the same faces: what calibration widens for, what `evaluate --stress` measures, and what a second look is."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Crop = npt.NDArray[np.uint8]  # [S, S, 3] RGB
Degradation = Callable[[Crop], Crop]


def fewer_pixels(crop: Crop, side: int) -> Crop:
    """As if the crop had been `side` px wide in the camera's picture."""
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def blurred(crop: Crop, sigma: float) -> Crop:
    """Out of focus: a Gaussian of sigma in percent of the crop's side."""
    return np.asarray(cv2.GaussianBlur(crop, (0, 0), sigma * crop.shape[0] / 100), np.uint8)


def darkened(crop: Crop, share: float) -> Crop:
    """So much of the light."""
    return (crop * share).astype(np.uint8)


def overexposed(crop: Crop, gain: float) -> Crop:
    """So much more light, clipped as a sensor clips."""
    return np.clip(crop * gain, 0, 255).astype(np.uint8)


def compressed(crop: Crop, quality: int) -> Crop:
    """Through JPEG of this quality."""
    _, data = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def grey(crop: Crop) -> Crop:
    """Without colour."""
    return np.repeat(np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8)[..., None], 3, axis=2)


def masked(crop: Crop) -> Crop:
    """The lower half of the face covered in light blue, as by a surgical mask."""
    covered = crop.copy()
    covered[int(0.58 * len(crop)) :, int(0.12 * len(crop)) : int(0.88 * len(crop))] = (150, 190, 215)
    return covered


# What `evaluate --stress` shows, in this order.
STRESS: dict[str, Degradation] = {
    "as it is": lambda crop: crop,
    "32 px": lambda crop: fewer_pixels(crop, 32),
    "24 px": lambda crop: fewer_pixels(crop, 24),
    "16 px": lambda crop: fewer_pixels(crop, 16),
    "blur 3 %": lambda crop: blurred(crop, 3),
    "blur 5 %": lambda crop: blurred(crop, 5),
    "a quarter of the light": lambda crop: darkened(crop, 0.25),
    "overexposed": lambda crop: overexposed(crop, 1.8),
    "JPEG 10": lambda crop: compressed(crop, 10),
    "grey": grey,
    "mask": masked,
}

# What calibration widens for: a ladder of lost detail, other rungs than those above.
LADDER: list[Degradation] = [
    *(lambda crop, side=side: fewer_pixels(crop, side) for side in (40, 28, 20, 14, 10, 7)),
    *(lambda crop, sigma=sigma: blurred(crop, sigma) for sigma in (2.0, 3.6, 4.4, 6.5, 9.0)),
]


def second_look(crop: Crop, random: np.random.Generator) -> Crop:
    """The same face a moment later: moved, turned and scaled a little, in other light, with noise; perhaps mirrored."""
    side = crop.shape[0]
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), random.normal(0, 4), float(np.exp(random.normal(0, 0.05))))
    turn[:, 2] += random.normal(0, 0.025 * side, 2)
    moved = cv2.warpAffine(crop, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if random.random() < 0.5:
        moved = moved[:, ::-1]
    lit = moved * np.exp(random.normal(0, 0.15)) + random.normal(0, 4, crop.shape)
    return np.clip(lit, 0, 255).astype(np.uint8)
