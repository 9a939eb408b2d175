"""Sources of frames: pictures, video files and live cameras, all as one stream of `Frame`.

    with open_source("clip.mp4") as source:
        for frame in source: ...

Unreadable data is never skipped silently: bad pictures and packets are counted, the good ones are yielded, and at the end one
SourceError says what was lost.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import SourceError, UsageError
from .addresses import is_address, path_of, printable, shown
from .connections import CameraWish
from .frames import Source
from .live_sources import RealtimeSource, live_source
from .pictures import kind_of, picture_files, pictures_among, read_picture
from .video_file import VideoSource

__all__ = ["open_source", "open_sources", "read_picture"]


def open_source(text: str, fps: float | None = None, realtime: bool = False, wish: CameraWish | None = None) -> Source:
    """Make the source of a camera number, file, folder, glob, URL or pipeline; raises SourceError.

    A source other than a file is opened by `with`, by `open()` or at its first frame, in the thread that reads it.

    fps: frame rate of a raw stream without timestamps (default: 30). realtime: play a video file at its own speed and drop late
    frames, as from a camera. wish: the format to request from a camera.
    """
    source = _source(text, fps, wish)
    return RealtimeSource(source) if realtime else source


def open_sources(
    texts: Sequence[str], fps: float | None = None, realtime: bool = False, wish: CameraWish | None = None
) -> list[Source]:
    """Make several sources: each video and camera is one, and all pictures (as a shell expands `photos/*.jpg`) together are one."""
    if len(set(texts)) < len(texts):
        twice = max(texts, key=list(texts).count)
        raise UsageError(f"expected each source once, got {shown(twice)} twice")
    paths = [path_of(text) for text in texts]
    if len(texts) > 1 and all(path.is_file() for path in paths):
        pictures, others = pictures_among(paths)
        if pictures and others:
            raise SourceError(
                f"{printable(str(others[0]))}: expected only pictures among several files, got another kind; give videos "
                "separately"
            )
        if pictures:
            return [picture_files(f"{len(paths)} pictures", paths)]
    sources = [_source(text, fps, wish) for text in texts]
    taken: set[str] = set()
    # Two addresses may differ only in hidden parts. Frames carry the name, so it is changed before the source is wrapped.
    for source in sources:
        name, number = source.name, 1
        while source.name in taken:
            number += 1
            source.name = f"{name} #{number}"
        taken.add(source.name)
    return [RealtimeSource(source) for source in sources] if realtime else sources


def _source(text: str, fps: float | None, wish: CameraWish | None) -> Source:
    path, name = path_of(text), printable(text)
    if path.is_file():
        return VideoSource(name, path, fps) if kind_of(path) == "video" else picture_files(name, [path], named=False)
    if re.fullmatch(r"\d+|/dev/(video|v4l/).*", text) or is_address(text) or text.startswith("gst:"):
        return live_source(text, wish)
    if path.is_dir():
        pictures, others = pictures_among(list(path.iterdir()))
        if not pictures:
            raise SourceError(f"{name}: the folder contains no pictures; give another folder")
        return picture_files(name, pictures, others)
    if glob.has_magic(text):
        pictures, others = pictures_among([Path(p) for p in glob.glob(str(path), recursive=True)])
        if not pictures:
            raise SourceError(f"{name}: no picture matches this pattern; correct the pattern")
        return picture_files(name, pictures, others)
    raise SourceError(f"{shown(text)}: no camera, file, folder or URL has this name; correct the path")
