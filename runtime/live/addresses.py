"""Names of sources: whether a name is an address, which file it means, and how to log it without secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TOKEN = re.compile(r"(?=\w*[a-z])(?=\w*[A-Z])(?=\w*\d)[A-Za-z0-9]{16,}")  # a key in a path
_ACCOUNT = re.compile(r"(?<=/)(live|movie|series)/[^/]+/[^/]+/", re.IGNORECASE)  # of television portals: name, password


def is_address(text: str) -> bool:
    """Whether the name is a network address (or csi://): any scheme, upper or lower case."""
    return _SCHEME.match(text) is not None


def shown(text: str) -> str:
    """A source's name for logs: without user, password, query, or path parts that repeat them.

    If an address can be read in two ways, the one that hides more is used.
    """
    if text.startswith("gst:"):
        return "gst:…"
    scheme = _SCHEME.match(text)
    if scheme is None:
        # an address without a scheme, such as user:password@host/path
        return re.sub(r"^[^/\s]+:.*@", "", printable(text), flags=re.DOTALL)
    head, rest = scheme[0], text[scheme.end() :]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority or (":" in authority and "@" in rest):  # a password may contain / ? # and @
        rest = rest.rpartition("@")[2]
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    path = re.sub(r"=[^/]*", "=…", path)
    path = _TOKEN.sub("…", _ACCOUNT.sub(r"\1/…/…/", "/" + path))
    return printable(head + host + (path if slash else ""))


def hide_in(message: str) -> str:
    """A library's message, with every address in it replaced by its `shown` form."""
    return re.sub(_SCHEME.pattern + r"[^\s'\"]+", lambda found: shown(found[0]), message)


def printable(text: str) -> str:
    """A name that JSON and terminals can represent: bytes of a file name that are not UTF-8 become replacement characters."""
    return os.fsencode(text).decode("utf-8", "replace")


def path_of(text: str) -> Path:
    """The file of a name; ~ means the home folder, unless a file has that name."""
    path = Path(text)
    if not text.startswith("~") or os.path.lexists(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # unknown user, or no home folder
        return path


def av_name(path: str | os.PathLike[str]) -> str:
    """The name by which FFmpeg opens a file; without this, `12:30.mp4` would be read as a protocol."""
    return f"file:{os.fspath(path)}"
