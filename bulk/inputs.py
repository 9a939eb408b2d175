"""What there is to read: every input listed once, in an order that is the same on every machine, and cut into units of work.

Nothing is opened here but folders and the tables of contents of archives. What a file is, is decided by its content when it is read.
"""

from __future__ import annotations

import glob
import hashlib
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
MEMBER = "::"  # between an archive's path and a member's name


@dataclass(frozen=True)
class Input:
    """One file, archive member or address."""

    source: str
    """As it is written in the result: a path, PATH::MEMBER, or an address."""

    place: Place
    """How its bytes are reached."""

    path: str
    """The file, the archive, or the address."""

    member: str = ""
    """The member's name in an archive."""

    offset: int = -1
    """Where the member's bytes begin in an uncompressed .tar."""

    size: int = -1
    """Bytes; -1 where that is not known before it is read."""

    changed_ns: int = -1
    """Modification time of the file or archive, ns since 1970; -1 where there is none."""

    fault: str = ""
    """Why it cannot be read, where listing it showed that already."""

    def identity(self) -> str:
        """What must stay the same for an earlier result to hold."""
        return "\0".join((self.source, str(self.size), str(self.changed_ns)))


@dataclass(frozen=True)
class Unit:
    """Inputs that one worker reads in one go; its result is written whole or not at all."""

    name: str
    """A hash over the identities of its inputs: it changes when one of them does."""

    inputs: tuple[Input, ...]


def list_inputs(inputs: Iterable[str], from_file: Path | None = None) -> Iterator[Input]:
    """Every input, in order; a file that is named twice comes once. Raises SourceError for an input that does not exist."""
    seen: set[str] = set()
    for text, base in (*((text, None) for text in inputs), *_lines(from_file)):
        for found in _listed(text, base):
            if found.source not in seen:
                seen.add(found.source)
                yield found


def cut(inputs: Iterable[Input], unit_size: int) -> Iterator[Unit]:
    """Units of at most `unit_size` inputs. An archive that can only be read from its start, and a video, is a unit of its own."""
    for alone, group in groupby(inputs, key=_group):
        if alone:
            whole = tuple(group)
            yield Unit(_name(whole), whole)
            continue
        while part := tuple(islice(group, unit_size)):
            yield Unit(_name(part), part)


def _group(found: Input) -> str:
    if found.place == "tar-stream":
        return found.path
    return found.source if found.path.lower().endswith(VIDEO_SUFFIXES) else ""


def _name(inputs: tuple[Input, ...]) -> str:
    digest = hashlib.sha256()
    for found in inputs:
        digest.update(found.identity().encode("utf-8", "surrogateescape") + b"\1")
    return digest.hexdigest()[:24]


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
    scheme, colon, _ = text.partition("://")
    if colon and scheme != "file":
        yield from [Input(text, "url", text)] if scheme in ("http", "https") else _remote(text)
        return
    path = os.path.expanduser(text) if text.startswith("~/") else text
    if base is not None and not os.path.isabs(path):
        path = os.path.join(base, path)
    if os.path.isdir(path):
        yield from _folder(path, set())
    elif os.path.lexists(path):
        yield from _file(path)
    else:
        matches = sorted(glob.glob(path, recursive=True), key=os.fsencode) if glob.has_magic(path) else []
        if not matches and base is None:
            raise SourceError(
                f"{text}: expected a file, folder, glob, archive or address, found nothing; correct the path"
            )
        if not matches:
            yield Input(text, "file", path, fault=f"{text}: expected a file, found none; correct the list")
        for match in matches:
            yield from _folder(match, set()) if os.path.isdir(match) else _file(match)


def _folder(path: str, above: set[tuple[int, int]]) -> Iterator[Input]:
    """The files of a folder and its subfolders, by name. A link back to a folder above it is not followed."""
    try:
        here = os.stat(path)
        entries = sorted(os.scandir(path), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        yield Input(path, "file", path, fault=f"{path}: the folder cannot be read ({error.strerror})")
        return
    mark = (here.st_dev, here.st_ino)
    if mark in above:
        yield Input(path, "file", path, fault=f"{path}: a link to a folder that contains it; not followed")
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _folder(entry.path, {*above, mark})
        else:
            yield from _file(entry.path)


def _file(path: str) -> Iterator[Input]:
    try:
        state = os.stat(path)
    except OSError as error:
        yield Input(path, "file", path, fault=f"{path}: cannot be read ({error.strerror})")
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
    place: Place = "tar" if path.lower().endswith(".tar") else "tar-stream"
    try:
        with tarfile.open(path, "r:" if place == "tar" else "r:*") as archive:
            for member in archive:
                if member.isfile() and not os.path.basename(member.name).startswith("."):
                    offset = member.offset_data if place == "tar" else -1
                    yield Input(
                        f"{path}{MEMBER}{member.name}", place, path, member.name, offset, member.size, changed_ns
                    )
    except (tarfile.TarError, OSError, EOFError) as error:
        yield Input(
            path, "tar", path, changed_ns=changed_ns, fault=f"{path}: not a whole .tar archive ({error}); copy it again"
        )


def _zip(path: str, changed_ns: int) -> Iterator[Input]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir() and not os.path.basename(member.filename).startswith("."):
                    source = f"{path}{MEMBER}{member.filename}"
                    yield Input(source, "zip", path, member.filename, -1, member.file_size, changed_ns)
    except (zipfile.BadZipFile, OSError) as error:
        yield Input(
            path, "zip", path, changed_ns=changed_ns, fault=f"{path}: not a whole .zip archive ({error}); copy it again"
        )


def _remote(address: str) -> Iterator[Input]:
    """The files under an fsspec address."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(address)
        protocol = address.partition("://")[0]
        found = system.find(path, detail=True) if system.isdir(path) else {path: system.info(path)}
    except (OSError, ValueError, ImportError) as error:
        raise SourceError(f"{address}: cannot be listed ({error}); check the address and the package for it") from None
    for name in sorted(found):
        yield Input(f"{protocol}://{name}", "url", f"{protocol}://{name}", size=int(found[name].get("size") or -1))
