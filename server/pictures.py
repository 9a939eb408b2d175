"""Pictures that clients send. Format and size are read from the first bytes, before anything is decoded."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as pil

from ..errors import SourceError
from ..runtime.live.pictures import decoded, kind_of_data, pictures_in
from .problems import Problem

Image = npt.NDArray[np.uint8]
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF")
MOST_SCANS = 100  # of a JPEG; each scan takes as long as a picture
TAKEN = "a JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000, AVIF or HEIC picture"

pil.init()  # every format's parser
# Pillow's warnings about clients' pictures do not belong in the server's log.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True, eq=False)
class Sent:
    """A picture as it arrived."""

    data: bytes
    name: str | None  # the file's name, if the client gave one
    arrived_s: float  # time.monotonic()


def allow_pixels(many: int) -> None:
    """Raise Pillow's own limit, which is about 179 million, so that the limit given to `decode` decides."""
    if pil.MAX_IMAGE_PIXELS is not None:
        pil.MAX_IMAGE_PIXELS = max(pil.MAX_IMAGE_PIXELS, many)


def decode(sent: Sent, max_pixels: int) -> Image:
    """Decode to uint8 BGR [H, W, 3], as `numclip.read` does. Raises Problem: 413 too large, 415 not a picture, 422 damaged."""
    data = sent.data
    if not data:
        raise Problem(422, f"expected {TAKEN}, got an empty body")
    heic = kind_of_data(data) == "heic"
    width, height = _heic_size(data) if heic else _size(data, max_pixels)
    if width < 1 or height < 1:
        raise Problem(422, "expected a picture with at least one pixel, got none; send another")
    if width * height > max_pixels:
        raise _too_large(f"{width} x {height}", max_pixels)
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MOST_SCANS:
        raise Problem(413, f"expected a JPEG of at most {MOST_SCANS} scans, got more; save it again")
    broken = Problem(422, "expected a whole picture, got one that is cut short or damaged; send another")
    try:
        image = next(pictures_in(data, "picture")) if heic else decoded(data)
    except SourceError:
        raise broken from None
    except (cv2.error, MemoryError):
        raise _too_large("its size", max_pixels) from None
    if image is None:
        raise broken
    return image


def _size(data: bytes, max_pixels: int) -> tuple[int, int]:
    try:
        with pil.open(BytesIO(data), formats=FORMATS) as picture:
            return picture.size
    except pil.DecompressionBombError:
        raise _too_large("more", max_pixels) from None
    except pil.UnidentifiedImageError:
        raise Problem(415, f"expected {TAKEN}, got other first bytes") from None
    except Exception as error:  # parsers of broken heads raise many kinds
        raise Problem(422, f"expected {TAKEN}, got a damaged header ({type(error).__name__}); send another") from None


def _heic_size(data: bytes) -> tuple[int, int]:
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise Problem(
            415, 'this server cannot read HEIC; save the picture as JPEG, or on the server: pip install "numclip[heic]"'
        ) from None
    try:
        width, height = pillow_heif.open_heif(data).size
    except Exception as error:
        raise Problem(
            422, f"expected a HEIC picture, got a damaged header ({type(error).__name__}); send another"
        ) from None
    return int(width), int(height)


def _too_large(got: str, max_pixels: int) -> Problem:
    return Problem(
        413, f"expected a picture of at most {max_pixels / 1e6:g} million pixels, got {got}; make it smaller"
    )
