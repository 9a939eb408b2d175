"""What the bytes of a picture file say without decoding: whether they are all there, how many pictures, and how to turn one.

OpenCV decodes a truncated JPEG or GIF without an error, ends a TIFF at the first page that it cannot decode, and does not turn
AVIF pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

# A JPEG marker (ITU-T T.81, B.1.1): not a stuffed byte, a restart, or one of the others without a length.
JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
JPEG_END = 0xD9
Image = npt.NDArray[np.uint8]


def is_cut(data: bytes) -> bool:
    """Whether the file ends within its first picture: a JPEG without its end marker, or a GIF that ends in a block."""
    if data.startswith(b"\xff\xd8"):
        return not _jpeg_ends(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        pictures, whole = _gif_blocks(data)
        return pictures <= 1 and not whole
    return False


def _jpeg_ends(data: bytes) -> bool:
    """Whether the end marker follows the pixels; a thumbnail in a segment has its own."""
    at = 2
    while (found := JPEG_MARKER.search(data, at)) is not None:
        if data[found.end() - 1] == JPEG_END:
            return True
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return False


def gif_pictures(data: bytes) -> int:
    """The number of pictures in a GIF.

    A GIF that is truncated within a block, or malformed, counts one more than it has, because a picture is missing; only the
    closing byte may be missing.
    """
    pictures, whole = _gif_blocks(data)
    return pictures + (not whole)


def _gif_blocks(data: bytes) -> tuple[int, bool]:
    """The number of pictures in a GIF, block by block (GIF89a, sections 18 to 27), and whether the last block ends."""
    image, extension, trailer = 0x2C, 0x21, 0x3B
    at, pictures = 13, 0
    try:
        at += _color_table(data[10])
        while at != len(data) and data[at] != trailer:
            if data[at] == image:
                pictures += 1
                at += 10 + _color_table(data[at + 9]) + 1
            elif data[at] == extension:
                at += 2
            else:
                return pictures, False
            while data[at]:
                at += 1 + data[at]
            at += 1
    except IndexError:
        return pictures, False
    return pictures, True


def _color_table(flags: int) -> int:
    """The size in bytes of the color table that a descriptor's flags announce."""
    return 3 * 2 ** (1 + (flags & 7)) if flags & 0x80 else 0


def tiff_pages(data: bytes) -> int:
    """The number of pages in a TIFF or BigTIFF (TIFF 6.0, section 2); one that is announced beyond the end of the file counts too."""
    order = "little" if data.startswith(b"II") else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    big = number(2, 2) == 43
    word, counted, entry = (
        (8, 8, 20) if big else (4, 2, 12)
    )  # bytes of an offset, of the number of entries, of an entry
    at, seen = number(8 if big else 4, word), set[int]()
    while at and at not in seen:  # a damaged file may have a circle
        seen.add(at)
        at = number(at + counted + entry * number(at, counted), word)
    return len(seen)


def turned_avif(image: Image, data: bytes) -> Image:
    """An AVIF's decoded primary picture, turned and mirrored as its properties irot and imir say (ISO/IEC 23008-12, 6.5.10 and 12)."""
    for kind, value in _avif_turns(data):
        image = np.rot90(image, value & 3) if kind == b"irot" else np.flip(image, value & 1)
    return np.ascontiguousarray(image)


def _avif_turns(data: bytes) -> list[tuple[bytes, int]]:
    """The properties of the primary picture that turn it, in their order: (name, first byte)."""
    meta = next((body for kind, body in _boxes(data) if kind == b"meta"), b"")
    inside = dict(_boxes(meta[4:]))
    item = int.from_bytes(inside.get(b"pitm", b"")[4:], "big")
    properties = list(_boxes(inside.get(b"iprp", b"")))
    known = [each for kind, body in properties if kind == b"ipco" for each in _boxes(body)]
    used = [index for kind, body in properties if kind == b"ipma" for index in _used(body, item)]
    chosen = [known[index - 1] for index in used if 0 < index <= len(known)]
    return [(kind, body[0]) for kind, body in chosen if kind in (b"irot", b"imir") and body]


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes in a box or file (ISO/IEC 14496-12, 4.2): (type, content)."""
    at = 0
    while at + 8 <= len(data):
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        end = len(data) if size == 0 else at + max(size, head)
        yield data[at + 4 : at + 8], data[at + head : end]
        at = end


def _used(body: bytes, item: int) -> Iterator[int]:
    """The numbers, from 1, of the properties that a box ipma gives to an item."""
    id_bytes, index_bytes = (4 if body[:1] > b"\0" else 2), (2 if int.from_bytes(body[1:4], "big") & 1 else 1)
    at = 8
    while at + id_bytes < len(body):
        owner, many = int.from_bytes(body[at : at + id_bytes], "big"), body[at + id_bytes]
        at += id_bytes + 1
        for _ in range(many):
            if owner == item:
                yield int.from_bytes(body[at : at + index_bytes], "big") & (0x7FFF if index_bytes == 2 else 0x7F)
            at += index_bytes
