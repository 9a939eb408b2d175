"""A crowd clip made from a few real faces: a grid of cards, each with its own drift and change of size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..runtime.sinks.video_writer import VideoWriter

FPS = 30
SIZE_WH = (1280, 720)
BACKGROUND_BGR = (205, 200, 195)
MAX_CARD_PX = 240
Image = npt.NDArray[np.uint8]


def crowd(cards: Sequence[Image], people: int, frames: int) -> Iterator[Image]:
    """Yield frames uint8 [720, 1280, 3] BGR of a crowd; person i shows card i modulo the number of cards.

    cards: square pictures uint8 [S, S, 3] BGR, each with one face.
    """
    columns = math.ceil(math.sqrt(people * SIZE_WH[0] / SIZE_WH[1]))
    rows = math.ceil(people / max(columns, 1))
    for index in range(frames):
        canvas = np.full((SIZE_WH[1], SIZE_WH[0], 3), BACKGROUND_BGR, np.uint8)
        for person in range(people):
            card = cards[person % len(cards)]
            cell = SIZE_WH[0] / columns, SIZE_WH[1] / rows
            t, phase = index / FPS, 2.4 * person
            side = min(0.8 * min(cell), MAX_CARD_PX) * (1 + 0.06 * math.sin(1.1 * t + phase))
            x = (person % columns + 0.5) * cell[0] + 0.06 * cell[0] * math.sin(1.9 * t + phase)
            y = (person // columns + 0.5) * cell[1] + 0.06 * cell[1] * math.sin(1.3 * t + 2 * phase)
            scale = side / len(card)
            to_frame = np.array([[scale, 0, x - side / 2], [0, scale, y - side / 2]], np.float64)
            cv2.warpAffine(card, to_frame, SIZE_WH, canvas, cv2.INTER_AREA, cv2.BORDER_TRANSPARENT)
        yield canvas


def write_crowd(path: Path, cards: Sequence[Image], people: int, frames: int) -> Path:
    """Write the crowd clip as a video file."""
    writer = VideoWriter(path, FPS)
    for index, image in enumerate(crowd(cards, people, frames)):
        writer.write(image, index / FPS)
    writer.close()
    return path
