"""What a viewer sees: a frame with a box, a number, its range and its word on every face."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..live.frames import Face, FrameResult

Image = npt.NDArray[np.uint8]
FONT = cv2.FONT_HERSHEY_DUPLEX
# Colours by track, BGR, apart in hue and readable under white text.
COLOURS = ((176, 92, 30), (60, 110, 200), (70, 140, 60), (150, 70, 150), (130, 130, 20), (60, 60, 190), (120, 80, 60))


@dataclass(frozen=True)
class Look:
    """What is drawn."""

    level: float | None = None  # of the range beside the number; None: no range
    blur: bool = False  # faces are made unrecognisable


def annotate(result: FrameResult, look: Look) -> Image:
    """A copy of the frame, [H, W, 3] uint8 BGR, with its faces marked."""
    image = result.frame.image.copy()
    unit = max(image.shape[:2]) / 800  # everything scales with the picture
    if look.blur:
        for face in result.faces:
            _blur(image, face)
    for face in result.faces:
        _mark(image, face, look, max(0.45, unit))
    return image


def label(face: Face, look: Look) -> tuple[str, str]:
    """The two lines on a face: the number (with its range where calibrated), and the word with gate and track."""
    track = "" if face.track_id is None else f"#{face.track_id}"
    if face.reading is None:
        return "?", (face.reason or "") + (f" {track}" if track else "")
    number = f"{face.reading.value:.0f}"
    if look.level is not None and face.reading.is_calibrated:
        low, high = face.reading.interval(look.level)
        number += f" ({low:.0f}-{high:.0f})"
    answer = "" if face.gate is None else f"{face.gate.threshold:g}+ {face.gate.answer}"
    return number, " ".join(part for part in (face.reading.bin, answer, track) if part)


def _mark(image: Image, face: Face, look: Look, unit: float) -> None:
    colour = COLOURS[(face.track_id or 0) % len(COLOURS)]
    x0, y0, x1, y1 = (round(v) for v in face.box_xyxy)
    thick = max(1, round(2 * unit))
    cv2.rectangle(image, (x0, y0), (x1, y1), colour, thick, cv2.LINE_AA)
    number, word = label(face, look)
    lines = [(number, 0.9 * unit), (word, 0.5 * unit)]
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


def _blur(image: Image, face: Face) -> None:
    """Pixelate to 8 squares across and smooth: nothing of a face comes back from that."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = face.box_xyxy
    grow_x, grow_y = 0.15 * (x1 - x0), 0.15 * (y1 - y0)
    left, right = int(np.clip(x0 - grow_x, 0, width)), int(np.clip(x1 + grow_x, 0, width))
    top, bottom = int(np.clip(y0 - grow_y, 0, height)), int(np.clip(y1 + grow_y, 0, height))
    if right > left and bottom > top:
        small = cv2.resize(image[top:bottom, left:right], (8, 8), interpolation=cv2.INTER_AREA)
        image[top:bottom, left:right] = cv2.resize(small, (right - left, bottom - top), interpolation=cv2.INTER_CUBIC)
