"""Findings of `numclip doctor`, the commands that they suggest, and the removal of names from reports."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TypedDict

from ..runtime.places import PACKAGE

# Paths that are the same on every machine; any other path may name a person, a company or a place.
PUBLIC_ROOTS = ("/bin", "/dev", "/etc", "/lib", "/opt/nvidia", "/proc", "/sbin", "/sys", "/usr", "/var/lib/nvpmodel")
PRIVATE = "…"  # replaces names
# Addresses of any scheme, except files, which are paths, and csi, which names no host.
_URL = re.compile(r"\b(?!(?:file|csi)://)[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]*[^\s'\":;,]")
_PATH = re.compile(r"(?<![\w./~-])(?:file://)?/(?!/)[^\s'\":;,]+")
_BY_ID = re.compile(r"(/dev/(?:v4l|disk)/by-\w+/)[^\s'\":]+")  # udev puts serial numbers into these


class FindingRecord(TypedDict):
    """A finding as JSON."""

    check: str
    ok: bool
    said: str
    fix: str | None


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    ok: bool
    said: str
    fix: str | None = None  # the command that fixes the problem; if there is none, a suggestion

    def to_json(self, private: Iterable[str] = ()) -> FindingRecord:
        """The finding for a bug report, without names of people, hosts or places, and without the words in `private`."""
        fix = None if self.fix is None else without_names(self.fix, private)
        return {"check": self.check, "ok": self.ok, "said": without_names(self.said, private), "fix": fix}


def pip(*words: str) -> str:
    """The pip command for this Python interpreter, quoted for a shell."""
    return shlex.join([sys.executable, "-m", "pip", *words])


def restore(file: str) -> str:
    """The command that restores a file of this package: from the checkout, or from where it was installed."""
    if (PACKAGE / ".git").exists():
        return shlex.join(["git", "-C", str(PACKAGE), "checkout", "--", file])
    try:
        record = json.loads(distribution("numclip").read_text("direct_url.json") or "{}")
        origin = str(record.get("url") or f"numclip=={version('numclip')}")
    except PackageNotFoundError:
        origin = "numclip"
    return pip("install", "--force-reinstall", "--no-deps", origin)


def without_names(text: str, private: Iterable[str] = ()) -> str:
    """The text for a bug report, without home folder, user, host, address, serial number, private paths, and the words in `private`."""
    for word in sorted((w for w in {*private} if w and not _is_public(w)), key=len, reverse=True):
        text = text.replace(word, PRIVATE)
    text = _URL.sub(lambda m: m[0].partition("://")[0] + "://" + PRIVATE, text)
    text = _BY_ID.sub(rf"\g<1>{PRIVATE}", text)
    text = text.replace(str(Path.home()), "~") if str(Path.home()) != "/" else text
    text = _PATH.sub(lambda m: m[0] if _is_public(m[0]) else f"{PRIVATE}/{_last_part(m[0])}", text)
    for name in _names():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", PRIVATE, text)
    return text


def _is_public(path: str) -> bool:
    return any(path == root or path.startswith(root + "/") for root in PUBLIC_ROOTS)


def _last_part(path: str) -> str:
    """The last part of a path if it is a known kind of file; names of folders and other files may be private."""
    last = path.rstrip("/").rpartition("/")[2]
    known = (".onnx", ".engine", ".whl", "python", "python3")
    return last if last.endswith(known) or last.startswith("python3.") else PRIVATE


def _names() -> list[str]:
    """This user's and this host's names, the longest first."""
    names = {platform.node(), platform.node().partition(".")[0], os.environ.get("USER", "")}
    with contextlib.suppress(OSError, KeyError):  # in a container a user may have no name
        names.add(getpass.getuser())
    return sorted(names - {"", "root", "localhost"}, key=len, reverse=True)
