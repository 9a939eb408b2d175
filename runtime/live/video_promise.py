"""What a video file states about itself: its number of pictures and its length."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from .picture_bytes import gif_pictures

END_SLACK_S = 0.5  # a container rounds its length, and may leave out the last picture's duration
HLS_SLACK = 0.03  # playlists round the length of each of their pieces
DISCARDED = 0x2  # AVINDEX_DISCARD_FRAME


class Promise(NamedTuple):
    """The stated number and length; None if the container does not state them."""

    pictures: int | None = None
    end_s: float | None = None
    covered_s: float | None = None  # that have pictures
    missing: str = ""  # what is known to be missing beforehand

    def broken(self, pictures: int, end_s: float, covered_s: float, gap_s: float) -> bool:
        """Whether a file with this many pictures, the last ending at end_s, is shorter than it states.

        gap_s: its longest time without a picture. If the length of a playlist is short by more than half of that, a piece is
        missing; otherwise the clock only jumped between two pieces.
        """
        fewer = self.pictures is not None and pictures < self.pictures
        early = self.end_s is not None and end_s < self.end_s - END_SLACK_S
        short_s = 0.0 if self.covered_s is None else self.covered_s - covered_s
        rounding_s = HLS_SLACK * (self.covered_s or 0.0)
        less = short_s > max(END_SLACK_S, min(rounding_s, gap_s / 2 if gap_s > END_SLACK_S else rounding_s))
        return fewer or early or less or bool(self.missing)


def promise_of(container: Any, stream: Any, path: Path | None) -> Promise:
    """The stated facts of an open PyAV container: MP4 counts its samples, GIF its blocks, Matroska states its end, a playlist lists
    its pieces. path: None if it is not a local file.
    """
    kinds = str(container.format.name).split(",")
    if "mp4" in kinds:
        return Promise(_shown_samples(stream))
    if "gif" in kinds and path is not None:
        return Promise(gif_pictures(path.read_bytes()))
    if "matroska" in kinds:
        return Promise(end_s=_seconds(stream.metadata.get("DURATION")))
    if "hls" in kinds:
        covered_s = None if container.duration is None else container.duration / 1e6
        return Promise(covered_s=covered_s, missing="" if path is None else _missing_pieces(path))
    return Promise()


def _shown_samples(stream: Any) -> int | None:
    """The samples of an MP4 that are shown; an edit list (a lossless trim) hides some. None: it does not count them."""
    if not stream.frames:
        return None
    entries = list(getattr(stream, "index_entries", ()))
    if not entries:
        return int(stream.frames)
    return sum(not entry.flags & DISCARDED for entry in entries)


def _missing_pieces(playlist: Path) -> str:
    """The pieces that a playlist lists but its folder lacks."""
    lines = (line.strip() for line in playlist.read_text("utf-8", "replace").splitlines())
    named = [line for line in lines if line and not line.startswith("#") and "://" not in line]
    return ", ".join(name for name in named if not os.path.exists(playlist.parent / name))


def _seconds(text: str | None) -> float | None:
    """hh:mm:ss.fraction in seconds."""
    if text is None:
        return None
    try:
        hours, minutes, seconds = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None
