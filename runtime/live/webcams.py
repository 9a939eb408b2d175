"""The cameras that are plugged in, as the kernel lists them (Linux)."""

from __future__ import annotations

import os
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from ...errors import UsageError

DEV = Path("/dev")
VIDIOC_ENUM_FMT, CAPTURE = 0xC0405602, 1  # linux/videodev2.h: _IOWR('V', 2, struct v4l2_fmtdesc), 64 bytes
FMTDESC = struct.Struct("=III32s4s16x")  # index, type, flags, description, pixel format, and what is reserved


def first_camera() -> str:
    """The source that is meant where none is named; raises UsageError where no camera is plugged in."""
    if not sys.platform.startswith("linux"):
        return "0"
    found = cameras()
    if not found:
        raise UsageError("expected a source, such as clip.mp4 or rtsp://…: none is named, and no camera is plugged in")
    return str(found[0])


def cameras(dev: Path = DEV) -> list[Path]:
    """Video nodes that capture; webcams have a second node for their metadata, which has no formats."""
    nodes = sorted(dev.glob("video*"), key=lambda p: int(re.sub(r"\D", "", p.name) or 0))
    return [node for node in nodes if not os.access(node, os.R_OK) or formats(node)]


def formats(node: Path, ioctl: Callable[[int, int, bytes], bytes] | None = None) -> list[str]:
    """The pixel formats a node captures, as four letters each; none for what is no camera."""
    if ioctl is None:
        import fcntl  # Linux and macOS have it

        ioctl = fcntl.ioctl
    found: list[str] = []
    try:
        file = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return found
    try:
        while len(found) < 64:
            answer = ioctl(file, VIDIOC_ENUM_FMT, FMTDESC.pack(len(found), CAPTURE, 0, b"", b""))
            found.append(FMTDESC.unpack(answer)[4].decode("ascii", "replace").strip())
    except OSError:  # the kernel's way to say that there are no more
        pass
    finally:
        os.close(file)
    return found
