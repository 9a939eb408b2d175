"""The YuNet face detector, downloaded into the cache when asked for and checked by its sha256.

The file (232 kB, MIT licence) comes from OpenCV's model zoo.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from ...errors import DetectorError, OutputError
from ..places import cache_dir
from .yunet import YUNET_FILE, YUNET_SHA256

YUNET_URL = f"https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/{YUNET_FILE}"
TIMEOUT_S = 30.0
LARGEST_BYTES = 8_000_000  # the file has 232,589; more is something else
BY_HAND = "or download it elsewhere and set NUMCLIP_YUNET to the file"


def fetch_yunet(url: str = YUNET_URL) -> Path:
    """Download YuNet into the cache unless the right file is there already; returns its place.

    Raises DetectorError where the file cannot be had, OutputError where it cannot be kept.
    """
    target = cache_dir() / YUNET_FILE
    if not (target.is_file() and sha256_of(target.read_bytes()) == YUNET_SHA256):
        keep(download(url), target)
    return target


def sha256_of(content: bytes) -> str:
    """The SHA-256 of bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


def download(url: str) -> bytes:
    """The bytes at `url`, if they are YuNet's; raises DetectorError saying what came instead."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            content = answer.read(LARGEST_BYTES)
    except urllib.error.HTTPError as error:
        raise DetectorError(
            f"expected YuNet at {url}, the server answered {error.code}; give --url, {BY_HAND}"
        ) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DetectorError(f"cannot reach {url} ({reason}); go online, {BY_HAND}") from None
    got = sha256_of(content)
    if got != YUNET_SHA256:
        raise DetectorError(f"{url}: expected sha256 {YUNET_SHA256}, got {got}; nothing was kept, give another --url")
    return content


def keep(content: bytes, target: Path) -> None:
    """Write under a temporary name, then rename, so that a broken write never looks like the file."""
    temporary: str | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".fetch-", delete=False) as part:
            temporary = part.name
            part.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {target} ({error.strerror}); make the folder writable or set NUMCLIP_CACHE"
        ) from None
