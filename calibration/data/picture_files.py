"""One interface to a folder or an uncompressed .tar of pictures and list files."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
LIST_SUFFIXES = (".txt", ".csv")


@dataclass(frozen=True, eq=False)
class PictureFiles:
    """The files of a folder or a .tar (a single top folder in the .tar is left out of the names)."""

    pictures: tuple[str, ...]  # sorted
    lists: tuple[str, ...]  # sorted
    read: Callable[[str], bytes]

    def text(self, name: str) -> str:
        """A list file as text; raises DataError."""
        try:
            return self.read(name).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{name}: cannot read this list of pictures as UTF-8 ({error}); correct it") from None


def open_pictures(path: Path) -> PictureFiles:
    """All files of a folder or a .tar, except hidden ones. If all pictures of a .tar are in a single folder at its top, names start below it.

    Raises DataError for a file that is not a .tar.
    """
    if path.is_dir():
        files = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
        return _sorted_out(files, lambda name: (path / name).read_bytes())
    where: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isfile():
                    where[member.name.removeprefix("./")] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise DataError(
            f"{path}: expected a folder or an uncompressed .tar file ({error}); unpack it, or give another path"
        ) from None

    tops = {name.partition("/")[0] if "/" in name else "" for name in _of_kind(where, IMAGE_SUFFIXES)}
    if len(tops) == 1 and "" not in tops:
        top = f"{tops.pop()}/"
        where = {name.removeprefix(top): place for name, place in where.items()}

    def read(name: str) -> bytes:
        if name not in where:
            raise FileNotFoundError(2, "not in the archive", name)
        offset, size = where[name]
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    return _sorted_out(sorted(where), read)


def _sorted_out(files: list[str], read: Callable[[str], bytes]) -> PictureFiles:
    return PictureFiles(_of_kind(files, IMAGE_SUFFIXES), _of_kind(files, LIST_SUFFIXES), read)


def _of_kind(files: Iterable[str], suffixes: tuple[str, ...]) -> tuple[str, ...]:
    """The files with these suffixes, without hidden files of file systems (`.DS_Store`, `._a.jpg`)."""
    hidden = (".", "__MACOSX")
    return tuple(
        name
        for name in files
        if name.lower().endswith(suffixes) and not any(part.startswith(hidden) for part in Path(name).parts)
    )
