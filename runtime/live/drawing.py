"""Draw a box, value, range and word onto every face of a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
FONT = cv2.FONT_HERSHEY_DUPLEX
# Colours by track, BGR, apart in hue and readable under white text.
COLOURS = ((176, 92, 30), (60, 110, 200), (70, 140, 60), (150, 70, 150), (130, 130, 20), (60, 60, 190), (120, 80, 60))


@dataclass(frozen=True)
class Mark:
    """The label of one face."""

    box_xyxy: tuple[float, float, float, float]  # px
    number: str  # the large line
    word: str  # the small line below it
    track_id: int | None = None  # chooses the colour


def draw(image: Image, marks: Sequence[Mark], hide: Iterable[Sequence[float]] = ()) -> Image:
    """A copy of a [H, W, 3] uint8 BGR picture with these labels. hide: boxes (xyxy px) to make unrecognisable first."""
    image = image.copy()
    unit = max(image.shape[:2]) / 800  # everything scales with the picture
    for box in hide:
        _blur(image, box)
    for mark in marks:
        _mark(image, mark, max(0.45, unit))
    return image


def _mark(image: Image, mark: Mark, unit: float) -> None:
    colour = COLOURS[(mark.track_id or 0) % len(COLOURS)]
    x0, y0, x1, y1 = (round(v) for v in mark.box_xyxy)
    thick = max(1, round(2 * unit))
    cv2.rectangle(image, (x0, y0), (x1, y1), colour, thick, cv2.LINE_AA)
    lines = [(mark.number, 0.9 * unit), (mark.word, 0.5 * unit)]
    sizes = [cv2.getTextSize(text, FONT, scale, 1)[0] for text, scale in lines]  # (w, h) px
    pad = round(5 * unit)
    width = max(w for w, _ in sizes) + 2 * pad
    height = sum(h for _, h in sizes) + 3 * pad
    left = int(np.clip(x0 - thick // 2, 0, max(0, image.shape[1] - width)))
    top = y0 - height if y0 - height >= 0 else min(max(0, y1), max(0, image.shape[0] - height))
    cv2.rectangle(image, (left, top), (left + width, top + height), colour, cv2.FILLED)
    y = top
    for (text, scale), (_, h) in zip(lines, sizes, strict=True):
        y += h + pad
        cv2.putText(image, text, (left + pad, y), FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)


def _blur(image: Image, box_xyxy: Sequence[float]) -> None:
    """Pixelate to 8 squares across and smooth, so that the face cannot be recovered."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box_xyxy
    grow_x, grow_y = 0.15 * (x1 - x0), 0.15 * (y1 - y0)
    left, right = int(np.clip(x0 - grow_x, 0, width)), int(np.clip(x1 + grow_x, 0, width))
    top, bottom = int(np.clip(y0 - grow_y, 0, height)), int(np.clip(y1 + grow_y, 0, height))
    if right > left and bottom > top:
        small = cv2.resize(image[top:bottom, left:right], (8, 8), interpolation=cv2.INTER_AREA)
        image[top:bottom, left:right] = cv2.resize(small, (right - left, bottom - top), interpolation=cv2.INTER_CUBIC)
