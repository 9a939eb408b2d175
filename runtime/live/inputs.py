"""Convert pictures in any common form to uint8 [H, W, 3] BGR."""

from __future__ import annotations

import http.client
import os
import urllib.request
from pathlib import Path
from typing import Literal, Protocol, Union, cast

import numpy as np
import numpy.typing as npt

from ...errors import SourceError
from .addresses import printable, shown
from .pictures import pictures_in, read_picture

Image = npt.NDArray[np.uint8]
Color = Literal["bgr", "rgb"]


class PilImage(Protocol):
    """A PIL.Image.Image."""

    mode: str

    def convert(self, mode: str) -> PilImage: ...


class Tensor(Protocol):
    """A torch.Tensor."""

    def detach(self) -> Tensor: ...

    def cpu(self) -> Tensor: ...

    def float(self) -> Tensor: ...

    def is_floating_point(self) -> bool: ...

    def numpy(self) -> npt.NDArray[np.generic]: ...


# What `numclip.read` accepts as one picture.
Picture = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, "npt.NDArray[np.generic]", PilImage, Tensor]


TAKEN = (
    "a path, an http(s) URL of a picture, its bytes, a PIL image, a numpy array or a torch tensor "
    "(uint8, float from 0 to 1, or uint16; grey, three or four channels), or a list of these"
)
TIMEOUT_S, MOST_BYTES = 10.0, 1 << 28  # of a downloaded picture
UINT16_PER_UINT8 = 257  # 65535 / 255


def picture_of(given: object, color: Color = "bgr") -> tuple[Image, str, str | None]:
    """Convert a picture to (uint8 [H, W, 3] BGR, the source's name, the file's name).

    color: the channel order of a numpy array; PIL images and torch tensors are RGB. Raises SourceError for a file or bytes that
    are not a picture, ValueError for an array of another shape or type, TypeError for any other object.
    """
    if isinstance(given, str) and given.lower().startswith(("http://", "https://")):
        name = shown(given)
        return next(pictures_in(_fetched(given, name), name)), name, name.rpartition("/")[2] or None
    if isinstance(given, (str, os.PathLike)):
        path = os.fspath(given)
        if not isinstance(path, str):
            raise _refusal("a path as bytes; use os.fsdecode")
        return read_picture(path), printable(path), printable(Path(path).name)
    if isinstance(given, (bytes, bytearray, memoryview)):
        return next(pictures_in(bytes(given), "bytes")), "bytes", None
    if isinstance(given, np.ndarray):
        if color not in ("bgr", "rgb"):
            raise ValueError(f'expected color "bgr" or "rgb", got {color!r}')
        return _from_array(given, color), "array", None
    library = type(given).__module__.partition(".")[0]
    if library == "PIL" or any(base.__module__.startswith("PIL.") for base in type(given).__mro__):
        return _from_pil(cast(PilImage, given)), "PIL image", None
    if library == "torch":
        return _from_torch(cast(Tensor, given)), "tensor", None
    raise _refusal(f"{type(given).__module__}.{type(given).__qualname__}".removeprefix("builtins."))


def _refusal(got: str) -> TypeError:
    return TypeError(f"expected {TAKEN}; got {got}")


def _from_array(array: npt.NDArray[np.generic], color: Color) -> Image:
    """From [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] of uint8, uint16 or float from 0 to 1."""
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    kinds = array.dtype == np.uint8 or array.dtype == np.uint16 or array.dtype.kind == "f"
    if channels not in (1, 3, 4) or not kinds or 0 in array.shape:
        batch = "; give a batch as a list: list(batch)" if array.ndim == 4 else ""
        raise ValueError(
            "expected a picture as an array [H, W], [H, W, 3] or [H, W, 4] of uint8, uint16, or float from 0 to 1, "
            f"got {array.dtype} {list(array.shape)}{batch}"
        )
    image = _as_uint8(array)
    if image.ndim == 2 or channels == 1:
        return np.ascontiguousarray(np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2))
    three = image[..., :3]
    return np.ascontiguousarray(three[..., ::-1] if color == "rgb" else three)


def _as_uint8(array: npt.NDArray[np.generic]) -> Image:
    if array.dtype == np.uint8:
        return np.asarray(array, np.uint8)
    if array.dtype == np.uint16:
        return np.round(array.astype(np.float32) / UINT16_PER_UINT8).astype(np.uint8)
    numbers = array.astype(np.float32)
    low, high = float(numbers.min()), float(numbers.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # NaN included
        raise ValueError(
            f"expected a float picture with values from 0 to 1, got {low:g} to {high:g}; divide it by 255, or convert "
            "it to uint8"
        )
    return np.round(numbers.clip(0, 1) * 255).astype(np.uint8)


def _from_pil(image: PilImage) -> Image:
    """Rotated by its EXIF data; transparency is ignored."""
    from PIL import Image as pil
    from PIL import ImageOps

    try:
        image = cast(PilImage, ImageOps.exif_transpose(cast(pil.Image, image)))
        if image.mode == "F":
            return _from_array(np.asarray(image), "rgb")
        if image.mode.startswith("I;16"):
            return _from_array(np.asarray(image).astype(np.uint16), "rgb")
        if image.mode == "I":
            raise ValueError("expected a PIL image of 8 or 16 bits, got mode I (32 bits); convert it")
        return _from_array(np.asarray(image.convert("RGB")), "rgb")
    except (OSError, SyntaxError) as error:
        raise SourceError(f"PIL image: cannot decode it ({error}); give another picture") from None


def _from_torch(tensor: Tensor) -> Image:
    """From [H, W], [C, H, W] or [H, W, C], C 1, 3 or 4, RGB, on any device."""
    if not hasattr(tensor, "detach"):
        raise _refusal(f"torch.{type(tensor).__name__}")
    tensor = tensor.detach().cpu()
    array: npt.NDArray[np.generic] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):  # torch's own order first
        array = np.moveaxis(array, 0, 2)
    return _from_array(array, "rgb")


def _fetched(address: str, name: str) -> bytes:
    """Download the bytes at a URL."""
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "numclip"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            data: bytes = answer.read(MOST_BYTES + 1)
    except http.client.InvalidURL:  # its text may repeat a password
        raise SourceError(
            f"{name}: expected a valid address; write a space as %20, leave out user name and password, and give the port as a "
            "number"
        ) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", "") or error).replace(address, name)
        if isinstance(error, http.client.HTTPException):  # its text may contain a password or a query
            reason = type(error).__name__
        raise SourceError(f"{name}: the server did not send the picture ({reason}); check the address") from None
    if len(data) > MOST_BYTES:
        raise SourceError(
            f"{name}: expected a picture of at most {MOST_BYTES >> 20} MiB, got a larger one; give a smaller one"
        )
    return data
