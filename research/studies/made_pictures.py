"""Two generated ordinal data sets from other domains: drawn objects to count, and scikit-learn's handwritten digits.

Each is a folder of pictures with a table, in the cache folder, identical in every run.
"""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ...runtime.places import cache_dir

Image = npt.NDArray[np.uint8]
VERSION = 1  # increase this when the pictures change
SIDE = 112
COUNTED, MOST = 2600, 20  # number of pictures, and maximum number of objects in one
VAL_SHARE = 4  # one in this many pictures is for validation


def domain_data(name: str) -> str:
    """Return DATA of a domain, `count` or `digits`; generate it if it does not exist."""
    folder = cache_dir() / "studies" / f"{name}-{VERSION}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
        try:
            _write(temporary, f"{name}.csv", counted_objects() if name == "count" else digits())
            os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return f"table:{folder / f'{name}.csv'}"


def _write(folder: Path, table: str, pictures: Iterator[tuple[Image, int]]) -> None:
    with (folder / table).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "split"])
        for at, (picture, label) in enumerate(pictures):
            name = f"{at:05d}.png"
            cv2.imwrite(str(folder / name), picture)
            writer.writerow([name, label, "val" if at % VAL_SHARE == 0 else "train"])


def counted_objects() -> Iterator[tuple[Image, int]]:
    """Generate pictures [112, 112, 3] of 1 to 20 discs, squares and triangles on a plain ground, and their counts."""
    random = np.random.default_rng(0)
    for _ in range(COUNTED):
        count = int(random.integers(1, MOST + 1))
        yield draw_objects(count, random), count


def draw_objects(count: int, random: np.random.Generator) -> Image:
    """Draw `count` objects that do not touch, uint8 [112, 112, 3]; if one does not fit, start again with smaller ones."""
    ground = random.integers(0, 256, 3)
    largest = 14.0
    while True:
        image = np.full((SIDE, SIDE, 3), ground, np.uint8)
        placed: list[tuple[float, float, float]] = []
        for _ in range(count):
            spot = _free_spot(placed, largest, random)
            if spot is None:
                break
            placed.append(spot)
            _object(image, spot, _colour(ground, random), int(random.integers(3)))
        if len(placed) == count:
            return image
        largest *= 0.9


def _free_spot(
    placed: list[tuple[float, float, float]], largest: float, random: np.random.Generator
) -> tuple[float, float, float] | None:
    """Find a place (x, y, radius) px at least 4 px from the next object; None after 100 tries."""
    for _ in range(100):
        radius = float(random.uniform(4, max(4.5, largest)))
        x, y = (float(v) for v in random.uniform(radius + 1, SIDE - radius - 1, 2))
        if all(np.hypot(x - a, y - b) > radius + r + 4 for a, b, r in placed):
            return x, y, radius
    return None


def _colour(ground: npt.NDArray[np.int64], random: np.random.Generator) -> tuple[int, ...]:
    """Choose a colour that contrasts with the ground."""
    while True:
        colour = random.integers(0, 256, 3)
        if np.abs(colour - ground).sum() > 150:
            return tuple(int(v) for v in colour)


def _object(image: Image, spot: tuple[float, float, float], colour: tuple[int, ...], kind: int) -> None:
    x, y, radius = spot
    if kind == 0:
        cv2.circle(image, (round(x), round(y)), round(radius), colour, -1, cv2.LINE_AA)
        return
    corners = {1: 4, 2: 3}[kind]
    angles = 2 * np.pi * (np.arange(corners) / corners + 1 / 8)
    points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)
    cv2.fillPoly(image, [points.round().astype(np.int32)], colour, cv2.LINE_AA)


def digits() -> Iterator[tuple[Image, int]]:
    """Return scikit-learn's 1,797 handwritten digits (8 x 8 px, 17 grey levels) as [112, 112, 3], in a fixed random order."""
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    images, labels = found.images, found.target
    for at in np.random.default_rng(0).permutation(len(labels)):
        grey = np.asarray(images[at] * 255 / 16).astype(np.uint8)
        large = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        yield np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2BGR), np.uint8), int(labels[at])
