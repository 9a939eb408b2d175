"""Degraded copies of face crops: for the widening of intervals, for `evaluate --stress`, and for simulated second looks.

Everything here works on crops and is deterministic; faces in crops are where the crop contract puts them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Crop = npt.NDArray[np.uint8]  # [S, S, 3] RGB
Degradation = Callable[[Crop], Crop]
Colour = tuple[int, int, int]  # RGB
EYES = ((0.30, 0.29), (0.70, 0.29))  # as fractions of the side, where the crop contract puts them
HEAD_RADIUS = 0.65  # as a fraction of the side, of the cylinder that approximates a head


def fewer_pixels(crop: Crop, side: int) -> Crop:
    """Reduce detail as if the face had been `side` px wide in the camera's picture."""
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def blurred(crop: Crop, sigma: float) -> Crop:
    """Blur with a Gaussian whose sigma is in percent of the crop's side."""
    return np.asarray(cv2.GaussianBlur(crop, (0, 0), sigma * crop.shape[0] / 100), np.uint8)


def lit(crop: Crop, gain: float) -> Crop:
    """Multiply the light, clipped as a sensor clips."""
    return np.clip(crop * np.float32(gain), 0, 255).astype(np.uint8)


def compressed(crop: Crop, quality: int) -> Crop:
    """Compress as JPEG of this quality."""
    _, data = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def grey(crop: Crop) -> Crop:
    """Remove the colour."""
    return np.repeat(np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8)[..., None], 3, axis=2)


def old_print(crop: Crop, contrast: float = 0.5, grain: float = 6.0) -> Crop:
    """Imitate a scan of a faded, soft, grainy print: brown, with this share of the contrast, and grain with a fixed seed."""
    light = grey(blurred(crop, 1.0)).astype(np.float32) * contrast + 140 * (1 - contrast)
    grains = np.random.default_rng(0).normal(0, grain, crop.shape[:2])[..., None]
    return np.clip(light + grains + (12, 0, -18), 0, 255).astype(np.uint8)


def masked(crop: Crop, top: float = 0.5, colour: Colour = (150, 190, 215)) -> Crop:
    """Cover the face below `top`, a share of the side, like a mask; by default a light blue surgical mask over the lower half."""
    covered = crop.copy()
    covered[int(top * len(crop)) :, int(0.05 * len(crop)) : int(0.95 * len(crop))] = colour
    return covered


def dark_glasses(crop: Crop, radius: float = 0.15, colour: Colour = (20, 20, 20)) -> Crop:
    """Cover both eyes with round dark glasses; radius: of a lens, as a share of the side."""
    covered, side = crop.copy(), len(crop)
    for x, y in EYES:
        cv2.circle(covered, (round(x * side), round(y * side)), round(radius * side), colour, cv2.FILLED)
    return covered


def turned(crop: Crop, degrees: float) -> Crop:
    """Turn to the side, as if painted on a cylinder and followed by the crop; unlike in a real profile, nothing new becomes visible."""
    side, radius, yaw = len(crop), HEAD_RADIUS * len(crop), math.radians(degrees)
    out = (np.arange(side) + 0.5 - side / 2) / radius + math.sin(yaw)
    angle = np.arcsin(out.clip(-1, 1)) - yaw
    x = np.tile((radius * np.sin(angle) + side / 2 - 0.5).astype(np.float32), (side, 1))
    y = np.tile(np.arange(side, dtype=np.float32)[:, None], (1, side))
    seen = np.asarray(cv2.remap(crop, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)
    seen[:, np.abs(out) > 1] = crop.mean(axis=(0, 1)).astype(np.uint8)  # outside the head
    return seen


# The kinds of `evaluate --stress`, in this order.
STRESS: dict[str, Degradation] = {
    "as it is": lambda crop: crop,
    "32 px": lambda crop: fewer_pixels(crop, 32),
    "24 px": lambda crop: fewer_pixels(crop, 24),
    "16 px": lambda crop: fewer_pixels(crop, 16),
    "blur 3 %": lambda crop: blurred(crop, 3),
    "blur 5 %": lambda crop: blurred(crop, 5),
    "light x 0.5": lambda crop: lit(crop, 0.5),
    "light x 0.2": lambda crop: lit(crop, 0.2),
    "light x 1.8": lambda crop: lit(crop, 1.8),
    "JPEG 30": lambda crop: compressed(crop, 30),
    "JPEG 10": lambda crop: compressed(crop, 10),
    "grey": grey,
    "old print": old_print,
    "mask": masked,
    "dark glasses": dark_glasses,
    "turned 20 degrees": lambda crop: turned(crop, 20),
    "turned 40 degrees": lambda crop: turned(crop, 40),
}

# Degrees of lost detail for the calibration's widening; they differ from the kinds above.
LADDER: list[Degradation] = [
    *(lambda crop, side=side: fewer_pixels(crop, side) for side in (40, 28, 20, 14, 10, 7)),
    *(lambda crop, sigma=sigma: blurred(crop, sigma) for sigma in (2.0, 3.6, 4.4, 6.5, 9.0)),
]

# Alterations for the widening of unfamiliar faces: some of the kinds above, at other strengths and in other colours.
ALTERED: list[Degradation] = [
    lambda crop: masked(crop, 0.46, (235, 235, 235)),
    lambda crop: masked(crop, 0.54, (30, 30, 35)),
    lambda crop: dark_glasses(crop, 0.13, (50, 40, 30)),
    lambda crop: dark_glasses(crop, 0.17, (10, 10, 15)),
    lambda crop: old_print(crop, 0.6, 8.0),
    lambda crop: lit(crop, 0.3),
    lambda crop: lit(crop, 1.6),
    lambda crop: compressed(crop, 15),
    lambda crop: turned(crop, 30),
]


def second_look(crop: Crop, random: np.random.Generator) -> Crop:
    """Simulate the same face a moment later: moved, rotated and scaled a little, in other light, with noise, and perhaps mirrored."""
    side = crop.shape[0]
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), random.normal(0, 4), float(np.exp(random.normal(0, 0.05))))
    turn[:, 2] += random.normal(0, 0.025 * side, 2)
    moved = cv2.warpAffine(crop, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if random.random() < 0.5:
        moved = moved[:, ::-1]
    seen = moved * np.exp(random.normal(0, 0.15)) + random.normal(0, 4, crop.shape)
    return np.clip(seen, 0, 255).astype(np.uint8)
