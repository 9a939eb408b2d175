"""Augmentation that imitates live video: geometry, light, blur, compression, noise and occlusion.

Cached crops are larger than the model's input (`margin` around the contract's square), so that shifting and rotating the crop
shows real surroundings, and border pixels only where the picture really ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Random = np.random.Generator
LEVELS = np.linspace(0, 1, 256)[:, None]


@dataclass(frozen=True)
class Augmentation:
    """Strength of the augmentation: standard deviations and probabilities, per crop."""

    rotation_deg: float = 7.0  # standard deviations of the similarity
    scale: float = 0.06  # log
    shift: float = 0.03  # of the side
    light: float = 0.25  # log gamma, contrast; brightness at a third of it
    colour: float = 0.06  # log gain per channel
    grey: float = 0.08  # probabilities from here on
    blur: float = 0.15
    shrink: float = 0.2
    jpeg: float = 0.3
    dark: float = 0.1
    erase: float = 0.2
    jitter: float = 0.0  # fraction of the side: the crop is shifted by up to this, uniformly


AUGMENTATIONS = {
    "strong": Augmentation(),
    # for a compact tower that underfits its training faces
    "light": Augmentation(
        rotation_deg=5, scale=0.05, shift=0.02, light=0.18, blur=0.1, shrink=0.15, jpeg=0.25, dark=0.05, erase=0.1
    ),
    # the authors' code takes a random 224 px crop of 256 px, and mirrors
    "released": Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, jitter=16 / 224),
}


def augment(crop: Image, side: int, inner: int, random: Random, how: Augmentation) -> Image:
    """Make one random training crop [side, side, 3] of a cached crop [M, M, 3], whose central `inner` px are the contract's crop."""
    image = _cut(crop, side, inner, random, how)
    if random.random() < how.shrink:
        image = _shrink(image, random)
    if random.random() < how.blur:
        image = _blur(image, random)
    image = _light(image, random, how)
    if random.random() < how.dark:
        image = _dark(image, random)
    if random.random() < how.jpeg:
        image = _jpeg(image, random)
    if random.random() < how.erase:
        image = _erase(image, random)
    return np.ascontiguousarray(image)


def center(crop: Image, side: int, inner: int) -> Image:
    """Return the contract's crop, the center of a cached crop, resized to [side, side, 3]."""
    start = (crop.shape[0] - inner) // 2
    middle = crop[start : start + inner, start : start + inner]
    return (
        middle
        if side == inner
        else np.asarray(cv2.resize(middle, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    )


def _cut(crop: Image, side: int, inner: int, random: Random, how: Augmentation) -> Image:
    """Apply a random similarity transform to the contract's square; half of the crops are mirrored."""
    angle = np.deg2rad(how.rotation_deg) * random.normal()
    scale = inner / side * np.exp(how.scale * random.normal())
    shift = how.shift * inner * random.normal(size=2)
    if how.jitter:
        shift = shift + how.jitter * inner * random.uniform(-1, 1, 2)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if random.random() < 0.5:
        turn[:, 0] *= -1
    middle = (crop.shape[0] - 1) / 2 + shift - turn @ np.full(2, (side - 1) / 2)
    matrix = np.hstack([turn, middle[:, None]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(crop, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _light(image: Image, random: Random, how: Augmentation) -> Image:
    """Change gamma, contrast, brightness and white balance, with one lookup table per channel; sometimes convert to grey."""
    gamma, contrast = np.exp(how.light * random.normal(size=2))
    brightness = how.light / 3 * random.normal()
    gains = np.exp(how.colour * random.normal(size=3))
    table = ((LEVELS**gamma - 0.5) * contrast + 0.5 + brightness) * gains  # [256, 3]
    table8 = (255 * np.clip(table, 0, 1)).astype(np.uint8)[None]
    image = np.asarray(cv2.LUT(image, table8), np.uint8)
    if random.random() < how.grey:
        image = np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)
    return image


def _shrink(image: Image, random: Random) -> Image:
    """Imitate a small or distant face: scale down by up to 4 and up again."""
    side = image.shape[0]
    small = max(8, int(side / random.uniform(1.2, 4)))
    down = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(down, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def _blur(image: Image, random: Random) -> Image:
    """Imitate defocus, or motion blur in one direction."""
    if random.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), random.uniform(0.5, 2.0)), np.uint8)
    length = int(random.integers(3, 9))
    kernel = np.zeros((length, length), np.float32)
    cv2.line(kernel, *((0, int(random.integers(length))), (length - 1, int(random.integers(length)))), 1.0)
    kernel = kernel if random.random() < 0.5 else kernel.T.copy()
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)


def _dark(image: Image, random: Random) -> Image:
    """Imitate low light: dim the crop and add sensor noise."""
    noise = random.standard_normal(image.shape, np.float32)
    noise *= random.uniform(2, 10)
    noise += image * np.float32(random.uniform(0.2, 0.7))
    return np.clip(noise, 0, 255, out=noise).astype(np.uint8)


def _jpeg(image: Image, random: Random) -> Image:
    """Compress as JPEG at quality 15 to 80."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(15, 80))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def _erase(image: Image, random: Random) -> Image:
    """Cover part of the face with a rectangle of one random colour, up to a third of each side."""
    image = image.copy()
    side = image.shape[0]
    height, width = (random.uniform(0.1, 0.35, 2) * side).astype(int)
    top, left = int(random.integers(side - height)), int(random.integers(side - width))
    image[top : top + height, left : left + width] = random.integers(0, 256, 3)
    return image
