"""What a video file says of itself: how many pictures it holds and when the last one ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

END_SLACK_S = 0.5  # a container rounds its length, and the last picture's own duration is not in its time
IMAGE, EXTENSION, TRAILER = 0x2C, 0x21, 0x3B


class Promise(NamedTuple):
    """None where the container says nothing."""

    pictures: int | None
    end_s: float | None

    def broken(self, pictures: int, end_s: float) -> bool:
        """Whether a file that gave so many pictures, the last one ending at end_s, holds less than it says."""
        fewer = self.pictures is not None and pictures < self.pictures
        return fewer or (self.end_s is not None and end_s < self.end_s - END_SLACK_S)


def promise_of(container: Any, stream: Any, path: Path) -> Promise:
    """From an open PyAV container: MP4 counts its samples, GIF its blocks, Matroska has the time of its end."""
    kinds = str(container.format.name).split(",")
    if "mp4" in kinds:
        return Promise(int(stream.frames) or None, None)
    if "gif" in kinds:
        return Promise(gif_pictures(path.read_bytes()), None)
    if "matroska" in kinds:
        return Promise(None, _seconds(stream.metadata.get("DURATION")))
    return Promise(None, None)


def gif_pictures(data: bytes) -> int:
    """Pictures of a GIF89a, block by block (its specification, sections 18 to 27); one more than it has when it is
    cut short or not well formed, because a picture is then missing."""
    at, pictures = 13, 0
    try:
        at += _color_table(data[10])
        while data[at] != TRAILER:
            if data[at] == IMAGE:
                pictures += 1
                at += 10 + _color_table(data[at + 9]) + 1
            elif data[at] == EXTENSION:
                at += 2
            else:
                return pictures + 1
            while data[at]:
                at += 1 + data[at]
            at += 1
    except IndexError:
        return pictures + 1
    return pictures


def _color_table(flags: int) -> int:
    """Bytes of the table that a descriptor's flags announce."""
    return 3 * 2 ** (1 + (flags & 7)) if flags & 0x80 else 0


def _seconds(text: str | None) -> float | None:
    """hh:mm:ss.fraction in seconds."""
    if text is None:
        return None
    try:
        hours, minutes, seconds = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None
