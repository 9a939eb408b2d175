"""What a source is called: whether its name is an address, which file it means, and what of it may be said aloud."""

from __future__ import annotations

import os
import re
from pathlib import Path

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TOKEN = re.compile(r"(?=\w*[a-z])(?=\w*[A-Z])(?=\w*\d)[A-Za-z0-9]{16,}")  # a key that stands in a path
_ACCOUNT = re.compile(r"(?<=/)(live|movie|series)/[^/]+/[^/]+/", re.IGNORECASE)  # of television portals: name, password


def is_address(text: str) -> bool:
    """Whether it names something in a network (or csi://): any scheme, in capitals or not."""
    return _SCHEME.match(text) is not None


def shown(text: str) -> str:
    """A source's name as it may be logged: without user, password, query and what a path holds of them.

    Where an address can be read in two ways, the one that hides more is taken.
    """
    if text.startswith("gst:"):
        return "gst:…"
    scheme = _SCHEME.match(text)
    if scheme is None:
        # an address without its scheme, as user:password@host/path
        return re.sub(r"^[^/\s]+:.*@", "", printable(text), flags=re.DOTALL)
    head, rest = scheme[0], text[scheme.end() :]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority or (":" in authority and "@" in rest):  # a password may hold / ? # and @
        rest = rest.rpartition("@")[2]
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    path = re.sub(r"=[^/]*", "=…", path)
    path = _TOKEN.sub("…", _ACCOUNT.sub(r"\1/…/…/", "/" + path))
    return printable(head + host + (path if slash else ""))


def hide_in(message: str) -> str:
    """A library's message, with every address in it as `shown` says it."""
    return re.sub(_SCHEME.pattern + r"[^\s'\"]+", lambda found: shown(found[0]), message)


def printable(text: str) -> str:
    """A name that JSON and terminals can hold: bytes of a file's name that are no UTF-8 become replacement marks."""
    return os.fsencode(text).decode("utf-8", "replace")


def path_of(text: str) -> Path:
    """The file that is meant: as it is, and ~ as the home folder where there is no such file but such a home."""
    path = Path(text)
    if not text.startswith("~") or os.path.lexists(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # no such user, or no home
        return path


def av_name(path: str | os.PathLike[str]) -> str:
    """The name by which FFmpeg opens a file, colons included: `12:30.mp4` is no protocol."""
    return f"file:{os.fspath(path)}"
