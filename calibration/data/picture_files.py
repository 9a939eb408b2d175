"""A folder or an uncompressed .tar of pictures, with the list files among them, behind one way to read."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
LIST_SUFFIXES = (".txt", ".csv")


@dataclass(frozen=True, eq=False)
class PictureFiles:
    """What lies below a folder or in a .tar (whose one top folder is left out of the names)."""

    pictures: tuple[str, ...]  # sorted
    lists: tuple[str, ...]  # sorted
    read: Callable[[str], bytes]

    def text(self, name: str) -> str:
        """A list file as text; raises DataError."""
        try:
            return self.read(name).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{name}: expected a list of pictures in UTF-8 ({error})") from None


def open_pictures(path: Path) -> PictureFiles:
    """Everything below a folder, or in a .tar; hidden files apart. Raises DataError for a file that is no .tar."""
    if path.is_dir():
        files = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
        return _sorted_out(files, lambda name: (path / name).read_bytes())
    where: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isfile():
                    where[member.name.partition("/")[2] or member.name] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise DataError(f"{path}: expected a folder or an uncompressed .tar, got neither ({error})") from None

    def read(name: str) -> bytes:
        if name not in where:
            raise FileNotFoundError(2, "not in the archive", name)
        offset, size = where[name]
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    return _sorted_out(sorted(where), read)


def _sorted_out(files: list[str], read: Callable[[str], bytes]) -> PictureFiles:
    """Pictures and lists; what a file system hides (`.DS_Store`, `._a.jpg`) is neither."""
    seen = [name for name in files if not any(part.startswith((".", "__MACOSX")) for part in Path(name).parts)]
    pictures = tuple(name for name in seen if name.lower().endswith(IMAGE_SUFFIXES))
    return PictureFiles(pictures, tuple(n for n in seen if n.lower().endswith(LIST_SUFFIXES)), read)
