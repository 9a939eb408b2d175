"""List every input once, in an order that is the same on every machine, and split the list into units of work.

Listing opens only folders and the tables of contents of archives. The type of a file is detected from its content when it is read.
"""

from __future__ import annotations

import glob
import hashlib
import http.client
import lzma
import os
import stat
import struct
import tarfile
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import Literal

from ..errors import SourceError

Place = Literal["file", "tar", "tar-stream", "zip", "url"]
VIDEO_SUFFIXES = (
    ".mp4",
    ".mov",
    ".mkv",
    ".avi",
    ".webm",
    ".ts",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".h264",
    ".h265",
    ".m3u8",
    ".3gp",
    ".wmv",
    ".flv",
)
# What reading a damaged, protected or unknown kind of archive raises, and a broken download.
READ_FAULTS = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    http.client.HTTPException,
)
MEMBER = "::"  # separates an archive's path from a member's name


@dataclass(frozen=True)
class Input:
    """One file, archive member or address."""

    source: str
    """The name in the result: a path, PATH::MEMBER, or an address."""

    place: Place
    """Where its bytes are stored."""

    path: str
    """Path of the file or archive, or the address."""

    member: str = ""
    """Name of the member in an archive."""

    offset: int = -1
    """Offset of the member's first byte in a .tar, decompressed."""

    size: int = -1
    """Size in bytes; -1 if it is not known before reading."""

    changed_ns: int = -1
    """Modification time of the file or archive, ns since 1970; -1 if there is none."""

    fault: str = ""
    """Why it cannot be read, if that was found while listing; otherwise empty."""

    duplicate_of: str = ""
    """Source of the identical input that is read instead; empty if there is none."""

    def identity(self) -> str:
        """Return the facts that must not change if an earlier result is to be reused."""
        original = (self.duplicate_of,) if self.duplicate_of else ()
        return "\0".join((self.source, str(self.size), str(self.changed_ns), *original))


@dataclass(frozen=True)
class Unit:
    """Inputs that one worker reads together; its result is written completely or not at all."""

    inputs: tuple[Input, ...]

    @cached_property
    def name(self) -> str:
        """Hash of the identities of its inputs; it changes when one of them changes."""
        digest = hashlib.sha256()
        for found in self.inputs:
            digest.update(found.identity().encode("utf-8", "surrogateescape") + b"\1")
        return digest.hexdigest()[:24]


def list_inputs(inputs: Iterable[str], from_file: Path | None = None) -> Iterator[Input]:
    """Yield every input in order, once even if it is named twice. Raises SourceError for an input that does not exist."""
    seen: set[str] = set()
    for text, base in (*((text, None) for text in inputs), *_lines(from_file)):
        for found in _listed(text, base):
            if found.source not in seen:
                seen.add(found.source)
                yield found


def cut(inputs: Iterable[Input], unit_size: int) -> Iterator[Unit]:
    """Yield units of at most `unit_size` inputs. A video, and an archive that can only be read from its start, is its own unit."""
    for alone, group in groupby(inputs, key=_group):
        if alone:
            yield Unit(tuple(group))
            continue
        while part := tuple(islice(group, unit_size)):
            yield Unit(part)


def _group(found: Input) -> str:
    if found.place == "tar-stream":
        return found.path
    return found.source if found.path.lower().endswith(VIDEO_SUFFIXES) else ""


def _lines(from_file: Path | None) -> Iterator[tuple[str, Path | None]]:
    if from_file is None:
        return
    try:
        text = from_file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise SourceError(f"--from-file {from_file}: cannot be read ({error.strerror}); correct the path") from None
    for line in text.splitlines():
        if line.strip():
            yield line.strip(), from_file.parent


def _listed(text: str, base: Path | None) -> Iterator[Input]:
    """Yield the inputs that a word means. In a list (with a base folder), a word without any input is an input that is an error."""
    try:
        yield from _found(text, base)
    except SourceError as error:
        if base is None:
            raise
        yield Input(text, "file", text, fault=str(error))


def _found(text: str, base: Path | None) -> Iterator[Input]:
    scheme, colon, _ = text.partition("://")
    if colon and scheme in ("http", "https"):
        yield Input(text, "url", text)
        return
    if colon and scheme != "file":
        yield from _remote(text)
        return
    path = _path_of(text) if colon else os.path.expanduser(text) if text.startswith("~/") else text
    if base is not None and not os.path.isabs(path):
        path = os.path.join(base, path)
    if os.path.isdir(path):
        yield from _folder(path, set())
    elif os.path.lexists(path):
        yield from _file(path)
    else:
        matches = sorted(glob.glob(path, recursive=True), key=os.fsencode) if glob.has_magic(path) else []
        if not matches:
            raise SourceError(
                f"{text}: expected a file, folder, glob, archive or address, found no such file; correct the path"
            )
        for match in matches:
            yield from _folder(match, set()) if os.path.isdir(match) else _file(match)


def _path_of(address: str) -> str:
    """Return the path of a file:// address."""
    parts = urllib.parse.urlsplit(address)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise SourceError(f"{address}: expected file:///PATH, got the host {parts.netloc!r}; write three slashes")
    return urllib.request.url2pathname(parts.path)


def _folder(path: str, above: set[tuple[int, int]]) -> Iterator[Input]:
    """Yield the files of a folder and its subfolders, sorted by name. A link to a folder that contains it is not followed."""
    try:
        here = os.stat(path)
        entries = sorted(os.scandir(path), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        yield Input(path, "file", path, fault=f"{path}: the folder cannot be read ({error.strerror})")
        return
    mark = (here.st_dev, here.st_ino)
    if mark in above:
        yield Input(
            path,
            "file",
            path,
            fault=f"{path}: not read, because it links to a folder that contains it; remove the link",
        )
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        # os.path.isdir is False for a link to itself, where entry.is_dir() raises; `_file` then tells why it cannot be read.
        if os.path.isdir(entry.path):
            yield from _folder(entry.path, {*above, mark})
        else:
            yield from _file(entry.path)


def _file(path: str) -> Iterator[Input]:
    try:
        state = os.stat(path)
    except OSError as error:
        yield Input(path, "file", path, fault=f"{path}: cannot be read ({error.strerror})")
        return
    if not stat.S_ISREG(state.st_mode):
        yield Input(path, "file", path, fault=f"{path}: not read, because it is a pipe, socket or device, not a file")
        return
    size, changed_ns = state.st_size, state.st_mtime_ns
    lower = path.lower()
    if lower.endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")):
        yield from _tar(path, changed_ns)
    elif lower.endswith(".zip"):
        yield from _zip(path, changed_ns)
    else:
        yield Input(path, "file", path, size=size, changed_ns=changed_ns)


def _tar(path: str, changed_ns: int) -> Iterator[Input]:
    """Yield the members of a .tar, in order; of several with one name only the last, which is what unpacking leaves."""
    place: Place = "tar" if path.lower().endswith(".tar") else "tar-stream"
    members: dict[str, Input] = {}
    fault = ""
    try:
        with tarfile.open(path, "r:" if place == "tar" else "r:*") as archive:
            for member in archive:
                if member.isfile() and not os.path.basename(member.name).startswith("."):
                    source = f"{path}{MEMBER}{member.name}"
                    members.pop(source, None)  # a stream is read in the order of the offsets
                    members[source] = Input(
                        source, place, path, member.name, member.offset_data, member.size, changed_ns
                    )
    except READ_FAULTS as error:
        fault = f"{path}: not a complete .tar archive ({error}); copy it again"
    yield from members.values()
    if fault:
        yield Input(path, "tar", path, changed_ns=changed_ns, fault=fault)


def _zip(path: str, changed_ns: int) -> Iterator[Input]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in {m.filename: m for m in archive.infolist()}.values():  # of one name, the last
                if not member.is_dir() and not os.path.basename(member.filename).startswith("."):
                    source = f"{path}{MEMBER}{member.filename}"
                    yield Input(source, "zip", path, member.filename, -1, member.file_size, changed_ns)
    except READ_FAULTS as error:
        yield Input(
            path,
            "zip",
            path,
            changed_ns=changed_ns,
            fault=f"{path}: not a complete .zip archive ({error}); copy it again",
        )


def _remote(address: str) -> Iterator[Input]:
    """Yield the files under an fsspec address."""
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(address)
        protocol = address.partition("://")[0]
        found = system.find(path, detail=True) if system.isdir(path) else {path: system.info(path)}
    except ModuleNotFoundError as error:
        if error.name == "fsspec":
            raise
        raise SourceError(f"{address}: cannot be listed ({error}); install that package") from None
    except Exception as error:  # the packages of fsspec raise errors of their own
        raise SourceError(
            f"{address}: cannot be listed ({error}); check the address, and that the fsspec package for it is installed"
        ) from None
    for name in sorted(found):
        yield Input(f"{protocol}://{name}", "url", f"{protocol}://{name}", size=int(found[name].get("size") or -1))
