"""Checks before a picture is decoded, and that decoding equals that of `numclip.read`."""

from __future__ import annotations

import asyncio
import struct
import time
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.requests import Request

from numclip.runtime.live.inputs import picture_of
from numclip.server.bodies import Bodies
from numclip.server.options import ServeOptions
from numclip.server.pictures import Sent, allow_pixels, decode
from numclip.server.problems import Problem

MOST = 1_000_000


def sent(data: bytes) -> Sent:
    return Sent(data, None, time.monotonic())


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """Return a PNG with this size in its header."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "name", ["face.jpg", "face.jfif", "face.gif", "face.jp2", "face.avif", "face.heic", "sideways.jfif"]
)
def test_each_format_is_the_picture_that_read_sees(shared_data: Path, name: str) -> None:
    """Each format decodes to the same pixels as in `numclip.read`, rotated by its EXIF."""
    if name.endswith("heic"):
        pytest.importorskip("pillow_heif", reason="needs the extra heic")
    data = (shared_data / "bugs" / name).read_bytes()
    assert np.array_equal(decode(sent(data), MOST), picture_of(data)[0])


@pytest.mark.parametrize(("form", "size"), [("PNG", (100_000, 100_000)), ("PNG", (1001, 1000)), ("JPEG", (1001, 1000)), ("WEBP", (1001, 1000)), ("TIFF", (1001, 1000)), ("GIF", (1001, 1000)), ("BMP", (1001, 1000)), ("JPEG2000", (1001, 1000)), ("AVIF", (1001, 1000))])  # fmt: skip
def test_too_many_pixels_are_refused_by_the_head_alone(form: str, size: tuple[int, int]) -> None:
    """A picture one column above a million pixels, and one of 100,000 x 100,000, get 413; one column less is read."""
    if size[0] > 2000:
        data = png(*size, zlib.compress(bytes(100)))
    else:
        file = BytesIO()
        Image.new("RGB", size).save(file, form)
        data = file.getvalue()
        small = BytesIO()
        Image.new("RGB", (1000, 1000)).save(small, form)
        assert decode(sent(small.getvalue()), MOST).shape == (1000, 1000, 3)
    with pytest.raises(Problem, match="million pixels") as refused:
        decode(sent(data), MOST)
    assert refused.value.status == 413


def test_a_whole_body_is_not_read_on() -> None:
    """The 413 of a picture with too many pixels is raised at once: its body has arrived, and nothing more is asked of the client. Of a
    body with too many bytes the rest is read first."""

    async def reads(options: ServeOptions, body: bytes) -> int:
        read = 0

        async def receive() -> dict[str, object]:
            nonlocal read
            read += 1
            return {"type": "http.request", "body": body, "more_body": read < 3}

        request = Request({"type": "http", "method": "POST", "headers": [], "path": "/v1/read"}, receive)
        with pytest.raises(Problem) as refused:
            async with Bodies(options).pictures(request) as pictures:
                decode(pictures[0], options.max_pixels)
        assert refused.value.status == 413
        return read

    big = png(1001, 1000, b"x" * 100)
    assert asyncio.run(reads(ServeOptions(max_pixels=MOST), big)) == 3
    assert asyncio.run(reads(ServeOptions(max_bytes=len(big)), big)) == 3


def test_the_limit_may_be_above_pillow_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit of 300 million pixels the head of a picture of 182 million passes: only its missing pixels are a fault."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # restored after the test
    data = sent(png(14_000, 13_000, b"x"))
    allow_pixels(300_000_000)
    with pytest.raises(Problem, match="a whole picture") as caught:
        decode(data, 300_000_000)
    assert caught.value.status == 422


def test_a_jpeg_of_many_scans_is_refused() -> None:
    """A progressive JPEG with 101 scans is rejected: each scan costs as much as a picture, and ten are usual."""
    image = np.zeros((64, 64, 3), np.uint8)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert 2 < data.count(b"\xff\xda") < 20
    decode(sent(data), MOST)
    at = data.rindex(b"\xff\xda")
    with pytest.raises(Problem) as refused:
        decode(sent(data[:at] + data[at:-2] * 100 + data[-2:]), MOST)
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", 422), (b"hello", 415), (b"\x00\x00\x00\x18ftypmp42" + bytes(100), 415), (png(10, 10, b"no zlib"), 422), (png(0, 10), 415), (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415), (b"%PDF-1.7", 415)],
)  # fmt: skip
def test_what_is_no_picture_has_its_status(data: bytes, status: int) -> None:
    """An empty body, a text, a video's header, a PNG of garbage or without pixels, an SVG and a PDF get their status."""
    with pytest.raises(Problem) as refused:
        decode(sent(data), MOST)
    assert refused.value.status == status


def status_of(data: bytes) -> int:
    """Return 200 for a picture within the limit, otherwise the problem's status."""
    try:
        height, width, channels = decode(sent(data), MOST).shape
    except Problem as problem:
        return problem.status
    return 200 if channels == 3 and width * height <= MOST else 500


HEADS = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF\x10\0\0\0WEBPVP8 ", b"\0\0\0\x0cjP  \r\n\x87\n", b"\0\0\0\x20ftypavif", b"\0\0\0\x20ftypheic"]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(HEADS), st.binary(max_size=300))
def test_any_bytes_are_a_picture_or_a_problem(head: bytes, rest: bytes) -> None:
    """Any bytes are a picture or a problem; no other exception is raised."""
    assert status_of(head + rest) in (200, 413, 415, 422)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "AVIF"]), st.data())
def test_a_damaged_picture_is_a_picture_or_a_problem(form: str, data: st.DataObject) -> None:
    """A picture of 32 x 32 with up to eight changed bytes, truncated somewhere, is a picture or a problem."""
    file = BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8)).save(file, form)
    damaged = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(0, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    assert status_of(bytes(damaged[: data.draw(st.integers(1, len(damaged)))])) in (200, 413, 415, 422)


@pytest.mark.parametrize("form", ["JPEG", "GIF"])
def test_a_truncated_picture_is_damaged(form: str) -> None:
    """A picture without its second half is refused with 422, although OpenCV would decode its first half."""
    file = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(file, form)
    whole = file.getvalue()
    assert (status_of(whole), status_of(whole[: len(whole) // 2])) == (200, 422)
