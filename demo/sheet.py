"""The demo's results: a contact sheet of the annotated video, and a table of ages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from ..errors import OutputError
from . import clip as demo_clip

COLUMNS, ROWS = 3, 2
TILE_WH = (480, 360)
GAP_PX = 8


class FaceLine(TypedDict, total=False):
    """The fields of a face in a JSON line that the demo uses."""

    track: int | None
    box: list[float]
    age: float | None
    low: float | None
    high: float | None


class FrameLine(TypedDict):
    """The fields of a frame's JSON line that the demo uses."""

    frame: int
    faces: list[FaceLine]


def write_sheet(video: Path, sheet: Path) -> None:
    """Write COLUMNS x ROWS frames of `video`, evenly spaced after the slide-in, into one PNG."""
    import cv2

    first = round((demo_clip.SLIDE_IN_S + 0.2) * demo_clip.FPS)
    picks = np.linspace(first, demo_clip.NUM_FRAMES - 2, COLUMNS * ROWS).round().astype(int)
    width, height = TILE_WH
    canvas = np.full((ROWS * (height + GAP_PX) + GAP_PX, COLUMNS * (width + GAP_PX) + GAP_PX, 3), 255, np.uint8)
    for at, image in enumerate(_frames_of(video, set(picks.tolist()))):
        top = GAP_PX + at // COLUMNS * (height + GAP_PX)
        left = GAP_PX + at % COLUMNS * (width + GAP_PX)
        canvas[top : top + height, left : left + width] = cv2.resize(image, TILE_WH, interpolation=cv2.INTER_AREA)
    done, png = cv2.imencode(".png", canvas)
    if not done:
        raise OutputError(f"cannot encode {sheet} as PNG; reinstall OpenCV")
    try:
        sheet.write_bytes(png.tobytes())
    except OSError as error:
        raise OutputError(f"cannot write {sheet} ({error.strerror}); give another --out") from None


def _frames_of(video: Path, wanted: set[int]) -> list[npt.NDArray[np.uint8]]:
    """Return the frames with the given numbers of a video file, in order, each uint8 [H, W, 3] BGR."""
    import av

    with av.open(str(video)) as container:
        frames = enumerate(container.decode(video=0))
        return [frame.to_ndarray(format="bgr24") for index, frame in frames if index in wanted]


def person_of(face: FaceLine) -> demo_clip.Person:
    """Return whose face it is: each person stays in one half of the clip."""
    x1, _, x2, _ = face.get("box", [0.0] * 4)
    return demo_clip.HOPPER if (x1 + x2) / 2 < demo_clip.SIZE_WH[0] / 2 else demo_clip.COLLINS


def table(results: Sequence[FrameLine]) -> str:
    """Return a table of ages per track: median, lowest and highest, and the interval if the model is calibrated."""
    tracks: dict[int, list[FaceLine]] = {}
    for face in (face for result in results for face in result["faces"]):
        if (track := face.get("track")) is not None:
            tracks.setdefault(track, []).append(face)
    rows = [("track", "person", "frames", "age (median)", "range", "interval")]
    for track, faces in sorted(tracks.items()):
        person = person_of(faces[len(faces) // 2])
        ages = [age for face in faces if (age := face.get("age")) is not None]
        lows = [low for face in faces if (low := face.get("low")) is not None]
        highs = [high for face in faces if (high := face.get("high")) is not None]
        middle, spread = (f"{median(ages):.1f}", f"{min(ages):.1f}-{max(ages):.1f}") if ages else ("-", "-")
        interval = f"{median(lows):.0f}-{median(highs):.0f}" if lows else "not calibrated"
        rows.append((str(track), person.name, str(len(faces)), middle, spread, interval))
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
