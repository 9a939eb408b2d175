"""Picture files: detect a file's type by content, decode every picture in it, and read pictures in a row as a `Source`."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import SourceError
from .addresses import printable
from .containers import faults, open_container
from .display import Display
from .frames import Arrival, Frame, Source, SourceEvent, SourceInfo
from .picture_bytes import gif_pictures, is_cut, tiff_pages, turned_avif

# picture: one or several pictures that are read here. heic: the same, by another library. video: FFmpeg may know it
Kind = Literal["picture", "heic", "video"]
PICTURE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jfif",
    ".png",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".jp2",
    ".gif",
    ".avif",
    ".heic",
    ".heif",
)
HEAD, MPF_HEAD = 4096, 1 << 16  # bytes that identify a file's type; that say whether a JPEG contains several pictures
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
NAMED = 5  # number of files named in a message
Image = npt.NDArray[np.uint8]


def kind_of(path: Path) -> Kind:
    """The type of a file, by its first bytes; raises SourceError if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            if not head:
                return "picture"  # reading it reports that it is empty
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _kind(head, data)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"{printable(str(path))}: cannot read the file ({reason}); check that it exists and that you may read it"
        ) from None


def kind_of_data(data: bytes) -> Kind:
    """The type of a file's bytes."""
    return _kind(data[:HEAD], data)


def _kind(head: bytes, data: mmap.mmap | bytes) -> Kind:
    if head.startswith(b"\xff\xd8\xff"):
        # concatenated pictures are a camera's raw stream, unless the first one announces them
        several = b"MPF\0" not in data[:MPF_HEAD] and data.find(b"\xff\xd9\xff\xd8") >= 0
        return "video" if several else "picture"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "video" if _has_animation(data) else "picture"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "video" if gif_pictures(data[:]) > 1 else "picture"
    if head[4:8] == b"ftyp":
        brands = {head[at : at + 4] for at in (8, *range(16, min(int.from_bytes(head[:4], "big"), HEAD), 4))}
        if b"avif" in brands and head[8:12] != b"avis":
            return "picture"
        return "heic" if head[8:12] in HEIC_BRANDS and b"avis" not in brands else "video"
    starts = (b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
    webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    return "picture" if webp or head.startswith(starts) else "video"


def _has_animation(data: mmap.mmap | bytes) -> bool:
    """Whether a PNG has the chunk acTL before its pixels (APNG)."""
    at = 8
    while at + 8 <= len(data):
        name = data[at + 4 : at + 8]
        if name in (b"acTL", b"IDAT"):
            return name == b"acTL"
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return False


def read_picture(path: str | os.PathLike[str]) -> Image:
    """The picture [H, W, 3] uint8 BGR, rotated by its EXIF data; the first if there are several. Raises SourceError naming the file."""
    return next(read_pictures(path))


def read_pictures(path: str | os.PathLike[str]) -> Iterator[Image]:
    """Every picture of a file; raises SourceError naming the file."""
    name = printable(os.fspath(path))
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SourceError(f"{name}: cannot read the picture ({error.strerror}); correct the path") from None
    yield from pictures_in(data, name)


def pictures_in(data: bytes, name: str) -> Iterator[Image]:
    """The picture [H, W, 3] uint8 BGR, or each page of a TIFF or animated WebP; raises SourceError."""
    if not data:
        raise SourceError(f"{name}: expected a picture or video, but the file is empty; give another file")
    try:
        if kind_of_data(data) == "heic":
            yield _decode_heic(name, data)
            return
        yield _decode(name, data)
        yield from _further_pages(name, data)
    except (cv2.error, MemoryError) as error:
        raise SourceError(
            f"{name}: the picture is too large to decode ({getattr(error, 'err', '') or 'no memory'}); make it smaller"
        ) from None


def decoded(data: bytes) -> Image | None:
    """The first picture, or the only one, if OpenCV can decode the whole of it; raises cv2.error."""
    if is_cut(data):
        return None
    avif = data[4:8] == b"ftyp"
    how = cv2.IMREAD_COLOR | (
        cv2.IMREAD_IGNORE_ORIENTATION if avif else 0
    )  # an AVIF's own properties count, not its EXIF data
    image = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    if image is None:
        return None
    return turned_avif(np.asarray(image, np.uint8), data) if avif else np.asarray(image, np.uint8)


def _decode(name: str, data: bytes) -> Image:
    image = decoded(data)
    if image is not None:
        return image
    if is_cut(data):
        raise SourceError(f"{name}: the picture is truncated; give the whole file")
    with suppress(SourceError, *faults()):  # FFmpeg may decode what this OpenCV cannot
        container, stream = open_container(name, BytesIO(data))
        with container:
            for picture in container.decode(stream):
                for image, _ in Display().images(picture, None):
                    return image
    raise SourceError(f"{name}: not a readable image (empty or truncated file); give another file")


def _decode_heic(name: str, data: bytes) -> Image:
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise SourceError(
            f'{name}: decoding this HEIC picture needs a package; run: pip install "numclip[heic]", or save the picture '
            "as JPEG"
        ) from None
    try:
        return np.ascontiguousarray(np.asarray(pillow_heif.open_heif(data, bgr_mode=True))[..., :3], np.uint8)
    except (ValueError, OSError, RuntimeError, EOFError):
        raise SourceError(f"{name}: not a readable HEIC image (empty or truncated file); give another file") from None


def _further_pages(name: str, data: bytes) -> Iterator[Image]:
    """The pages after the first; raises SourceError if one cannot be decoded."""
    webp = data[8:12] == b"WEBP"
    if not webp and not data.startswith((b"II", b"MM")):
        return
    buffer = np.frombuffer(data, np.uint8)
    promised = data.count(b"ANMF") if webp else tiff_pages(data)
    for number in range(1, promised):
        pages = cv2.imdecodemulti(buffer, cv2.IMREAD_COLOR, range=(number, number + 1))[1]
        if not pages:
            raise SourceError(
                f"{name}: expected at least {promised} pictures, but only the first {number} can be decoded; give the whole file, or "
                "save each picture as a file"
            )
        yield np.asarray(pages[0], np.uint8)


class PictureSource(Source):
    """A source of pictures in a row."""

    def __init__(
        self, info: SourceInfo, readers: list[tuple[str, Callable[[], Iterator[Image]]]], named: bool = True
    ) -> None:
        """readers: (file name, function that reads its pictures). named: give the file name with each picture, because the source's
        name does not identify it.
        """
        self.name, self._info, self._readers, self._named, self._stopped = info.name, info, readers, named, False

    def open(self) -> SourceInfo:
        return self._info

    def stop(self) -> None:
        self._stopped = True

    def arrivals(self) -> Iterator[Arrival | SourceEvent]:
        """Each picture; at the end a SourceError names the files that are not pictures."""
        bad: list[tuple[str, SourceError]] = []
        index = 0
        for file, reader in self._readers:
            pages = reader()
            while not self._stopped:
                began_s = time.monotonic()
                try:
                    image = next(pages, None)
                except SourceError as error:
                    bad.append((file, error))
                    break
                if image is None:
                    break
                times_s = began_s, time.monotonic()
                frame = Frame(image, index, 0.0, began_s, self.name, file if self._named else None, times_s)
                yield lambda frame=frame: frame
                index += 1
        if len(bad) == 1:
            raise bad[0][1]
        if bad:
            names = listed([file for file, _ in bad])
            raise SourceError(
                f"{self.name}: {len(bad)} of {len(self._readers)} files cannot be read as pictures ({names}); remove or replace them"
            )


def picture_files(
    name: str, files: list[Path], left_out: list[Path] | None = None, named: bool = True
) -> PictureSource:
    """A source of pictures, in this order. left_out: other files in the folder, which a message names. named: give each picture's name
    in the folder that all of them are in, such as x/1.jpg.
    """
    notes = () if not left_out else (f"skipped, not pictures: {listed([path.name for path in left_out])}",)
    info = SourceInfo(name, frames=len(files), stills=True, files=tuple(files), notes=notes)
    names = [printable(each) for each in _names_within(files)]
    return PictureSource(
        info, [(each, partial(read_pictures, path)) for each, path in zip(names, files, strict=True)], named
    )


def _names_within(files: list[Path]) -> list[str]:
    """The files' names in their nearest common folder."""
    whole = [os.path.abspath(path) for path in files]
    try:
        folder = os.path.commonpath([os.path.dirname(path) for path in whole])
    except ValueError:  # on different drives
        return whole
    return [Path(path).relative_to(folder).as_posix() for path in whole]


def pictures_among(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Split into (pictures, other files). A file with a picture's suffix counts as a picture even if it is not readable, so that
    it is reported.
    """
    files = [path for path in sorted(paths) if path.is_file()]
    pictures = [path for path in files if _is_picture(path)]
    return pictures, [path for path in files if path not in set(pictures)]


def _is_picture(path: Path) -> bool:
    if path.suffix.lower() in PICTURE_SUFFIXES and path.suffix.lower() != ".gif":
        return True
    try:
        return kind_of(path) != "video"
    except SourceError:
        return False


def listed(names: list[str]) -> str:
    """A few of the names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(printable, names[:NAMED])) + more
