"""The cache folder, and writing files atomically."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from ..errors import OutputError

PACKAGE = Path(__file__).resolve().parents[1]  # this package; in a checkout the repository


def cache_dir() -> Path:
    """The folder for downloads and derived data.

    It is NUMCLIP_CACHE if set, else XDG_CACHE_HOME/numclip, else ~/.cache/numclip. A user without a home folder gets a folder in
    the system's temporary folder. This function does not create it.
    """
    named = os.environ.get("NUMCLIP_CACHE")
    if named:
        return Path(named)
    root = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = (Path(root) if root else Path("~/.cache").expanduser()) / "numclip"
    except RuntimeError:  # no HOME, and no entry for this user
        return _temporary_cache()
    return folder if root or _can_be_made(folder) else _temporary_cache()


def _can_be_made(folder: Path) -> bool:
    """Whether this user may create the folder or write to it."""
    return os.access(_nearest(folder), os.W_OK | os.X_OK)


def _nearest(folder: Path) -> Path:
    """The folder if it exists, or else the nearest place above it that does."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _temporary_cache() -> Path:
    owner = getattr(os, "getuid", lambda: 0)()
    return Path(tempfile.gettempdir()) / f"numclip-cache-{owner}"


def check_output(file: str | Path | None) -> None:
    """Raise OutputError for a file that cannot be written, because it or its folder is not what it should be; None and `-` pass.

    For whatever works for minutes before it writes.
    """
    if file is None or file == "-":
        return
    folder = Path(file).parent
    if not folder.is_dir():
        raise OutputError(
            f"cannot write {file}: {folder} is not a folder that exists; create it or choose another place"
        )
    if Path(file).is_dir():
        raise OutputError(f"cannot write {file}: expected a file, got a folder; choose another place")


def check_folder(folder: Path | None) -> None:
    """Raise OutputError for an output folder that cannot be created, because it or one above it is a file; None passes."""
    if folder is not None and not (there := _nearest(folder)).is_dir():
        raise OutputError(f"cannot write {folder}: expected a folder, but {there} is a file; choose another place")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file atomically: to a temporary name in the same folder, then a rename.

    Raises OutputError naming the file.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror}); free space or choose another place") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(where: str | Path, content: object) -> None:
    """Write a report as JSON to a file, atomically, or to standard output for `-`. Raises OutputError naming the file."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    if where == "-":
        sys.stdout.write(text)
    elif Path(where).is_char_device() or Path(where).is_fifo():
        Path(where).write_text(text, encoding="utf-8")
    else:
        write_whole(Path(where), text.encode())
