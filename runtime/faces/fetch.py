"""Download the YuNet face detector into the cache, explicitly and checked by its sha256.

The file (232 kB, MIT licence) comes from OpenCV's model zoo. Nothing else in numclip downloads anything.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from ...errors import DetectorError, OutputError
from ..places import cache_dir
from .detect import YUNET_FILE, YUNET_SHA256

YUNET_URL = f"https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/{YUNET_FILE}"
TIMEOUT_S = 30.0
LARGEST_BYTES = 8_000_000  # the file has 232,589; more is something else
BY_HAND = "or download it elsewhere and set NUMCLIP_YUNET to the file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip fetch`."""
    parser.add_argument("what", choices=["yunet"], metavar="yunet", help="what to download: the YuNet face detector")
    parser.add_argument("--url", default=YUNET_URL, help="another place that has the same file (a mirror)")


def run(args: argparse.Namespace) -> int:
    """Fetch unless the cache already holds the right file; the last line is the next command."""
    target = cache_dir() / YUNET_FILE
    if target.is_file() and sha256_of(target.read_bytes()) == YUNET_SHA256:
        print(f"YuNet is already there: {target}")
    else:
        keep(download(args.url), target)
        print(f"YuNet is in the cache: {target}")
    print("next: numclip run 0 --detector yunet --show")
    return 0


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
