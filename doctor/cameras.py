"""Checks of cameras: open each, list its formats, take a frame, and count the frames of one second."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import NumclipError, nearest
from ..runtime.live.webcams import DEV, cameras, formats
from ..runtime.system import read_line
from .finding import Finding

CLASS = Path("/sys/class/video4linux")
MEASURE_S = 1.0


def checks(sources: Sequence[str] | None = None) -> Iterator[Finding]:
    """The named sources, or every connected camera."""
    if sources is None:
        sources = [str(path) for path in cameras()]
        if not sources:
            yield Finding("camera", True, "no camera is connected; files and network streams can be read")
    for source in sources:
        yield camera(source)


def camera(source: str) -> Finding:
    """Open a camera, file or stream, take frames, and measure their rate."""
    from ..runtime.live.addresses import shown
    from ..runtime.live.sources import open_source

    try:
        with open_source(source) as opened:
            info = opened.open()
            times: list[tuple[int, float]] = []
            shape = (0, 0)
            for frame in opened:
                times.append((frame.index, frame.captured_s))
                shape = frame.image.shape[:2]
                if info.stills or time.monotonic() - times[0][1] >= MEASURE_S:
                    break
            name = opened.name
            measured = f", {rate:.1f} fps measured" if info.live and (rate := frames_per_s(times)) else ""
    except NumclipError as error:
        return Finding("camera", False, str(error), another(source))
    if not times:
        return Finding("camera", False, f"{shown(source)}: delivers no frames", another(source))
    kinds = ", ".join(formats(Path(source))) if source.startswith("/dev/") else ""
    title = read_line(CLASS / Path(source).resolve().name / "name") if source.startswith("/dev/") else None
    said = f"{name}{f' ({title})' if title else ''}: {shape[1]} x {shape[0]}{measured}{f'; {kinds}' if kinds else ''}"
    return Finding("camera", True, said)


def frames_per_s(times: list[tuple[int, float]]) -> float | None:
    """The frame rate, from (index, capture time in s) of the frames: n frames span n - 1 gaps, and indices count dropped frames too."""
    if len(times) < 2 or times[-1][1] <= times[0][1]:
        return None
    return (times[-1][0] - times[0][0]) / (times[-1][1] - times[0][1])


def another(source: str, dev: Path = DEV) -> str:
    """The command for a source that cannot be opened: permit it, use the nearest existing name, or another camera."""
    node = Path(f"/dev/video{source}" if source.isdecimal() else os.path.expanduser(source))
    if node.exists() and not os.access(node, os.R_OK):
        return 'sudo usermod -aG video "$USER" && newgrp video'
    meant: list[str] = []
    if "://" not in source and node.parent != DEV and node.parent.is_dir():
        names = [path.name for path in node.parent.iterdir() if path.is_file() and path != node]
        name = nearest(node.name, names, alike=0.8)
        meant = [] if name is None else [str(node.with_name(name))]
    there = [str(path) for path in cameras(dev) if os.access(path, os.R_OK) and path != node]
    chosen = [*meant, *there]
    return shlex.join(["numclip", "doctor", "--camera", chosen[0]]) if chosen else "numclip doctor"
