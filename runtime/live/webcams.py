"""The connected cameras, as the kernel lists them (Linux)."""

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
    """The source to use if none is named: the first camera; raises UsageError if none is connected."""
    if not sys.platform.startswith("linux"):
        return "0"
    found = cameras()
    if not found:
        raise UsageError("expected a SOURCE, such as clip.mp4 or rtsp://…, because no camera is connected; name one")
    return str(found[0])


def cameras(dev: Path = DEV) -> list[Path]:
    """The video nodes that can capture; a webcam's second node, for metadata, has no formats."""
    nodes = sorted(dev.glob("video*"), key=lambda p: int(re.sub(r"\D", "", p.name) or 0))
    return [node for node in nodes if not os.access(node, os.R_OK) or formats(node)]


def formats(node: Path, ioctl: Callable[[int, int, bytes], bytes] | None = None) -> list[str]:
    """The pixel formats of a node, as four letters each; none if it is not a camera."""
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
    except OSError:  # the kernel reports the end of the list this way
        pass
    finally:
        os.close(file)
    return found
