"""Reads a request's body within limits of bytes and time, and finds the pictures in it. Nothing is written to disk."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from ..runtime.live.addresses import printable
from .options import ServeOptions
from .pictures import Sent
from .problems import Problem, overloaded

BODIES = 8  # this many bodies of the largest size may be in memory at a time
JSON_MARKS, MOST_MARKS = (b"{", b"[", b",", b'"'), 1000  # of a body of JSON
SHORT_BYTES = 4096  # largest body without pictures
DRAIN_S, DRAIN_BYTES = (
    2.0,
    64 << 20,
)  # a refused body is read on for so long and so far, so that the client gets the answer


class Bodies:
    """Reads bodies, each within its limit and all together within one."""

    def __init__(self, options: ServeOptions) -> None:
        self._options, self._free_bytes = options, BODIES * options.max_bytes

    @asynccontextmanager
    async def pictures(self, request: Request) -> AsyncGenerator[list[Sent], None]:
        """The pictures of a request. Their bytes count against the common limit until the block ends. Raises Problem 408, 413, 415, 422, 429."""
        held, whole = 0, False
        try:
            self._check_length(request)
            chunks: list[bytes] = []
            started_s = time.monotonic()
            stream = request.stream()
            while True:
                left_s = started_s + self._options.timeout_s - time.monotonic()
                try:
                    chunk = await asyncio.wait_for(anext(stream), max(0.0, left_s))
                except StopAsyncIteration:
                    break
                except asyncio.TimeoutError:
                    raise self._too_slow() from None
                if len(chunk) > self._free_bytes:
                    raise overloaded(1.0)
                self._free_bytes -= len(chunk)
                held += len(chunk)
                if held > self._options.max_bytes:
                    raise self._too_long()
                chunks.append(chunk)
            whole = True
            body = b"".join(chunks)
            del chunks
            yield await self._split(request, body)
        except Problem as problem:
            if problem.status == 413 and not whole:  # of a whole body nothing more comes
                await _drain(request)
            raise
        finally:
            self._free_bytes += held

    async def short(self, request: Request, most_bytes: int = SHORT_BYTES) -> bytes:
        """A body of at most `most_bytes`. Raises Problem 408, 413."""

        async def read() -> bytes:
            body = b""
            async for chunk in request.stream():
                body += chunk
                if len(body) > most_bytes:
                    raise Problem(413, f"expected a body of at most {most_bytes} bytes", {"Connection": "close"})
            return body

        try:
            return await asyncio.wait_for(read(), self._options.timeout_s)
        except asyncio.TimeoutError:
            raise self._too_slow() from None

    def _too_slow(self) -> Problem:
        return Problem(408, f"expected the whole body within {self._options.timeout_s:g} s", {"Connection": "close"})

    def _check_length(self, request: Request) -> None:
        said = request.headers.get("content-length", "0")
        if said.isdecimal() and int(said) > self._options.max_bytes:
            raise self._too_long()

    def _too_long(self) -> Problem:
        return Problem(
            413, f"expected a body of at most {self._options.max_bytes} bytes, got more", {"Connection": "close"}
        )

    async def _split(self, request: Request, body: bytes) -> list[Sent]:
        arrived_s = time.monotonic()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            found = await run_in_threadpool(asyncio.run, self._parts(request.headers, body))
        elif kind == "application/json":
            found = [(data, None) for data in await run_in_threadpool(self._from_json, body)]
        elif kind.startswith("image/") or kind in ("application/octet-stream", ""):
            found = [(body, None)]
        else:
            raise Problem(
                415,
                f"expected a picture (image/* or application/octet-stream), multipart/form-data or application/json, got {kind}",
            )
        if not 1 <= len(found) <= self._options.max_pictures:
            raise Problem(
                422, f"expected from 1 to {self._options.max_pictures} pictures in a request, got {len(found)}"
            )
        return [Sent(data, name, arrived_s) for data, name in found]

    async def _parts(self, headers: Headers, body: bytes) -> list[tuple[bytes, str | None]]:
        """The parts of a form. It runs in its own thread and event loop, because a malicious form takes seconds to parse."""

        async def once() -> AsyncGenerator[bytes, None]:
            yield body

        many = self._options.max_pictures
        parser = MultiPartParser(headers, once(), max_files=many, max_fields=many)
        parser.spool_max_size = self._options.max_bytes + 1  # no part goes to a file
        try:
            form = await parser.parse()
        except (MultiPartException, KeyError, ValueError) as error:
            said = getattr(error, "message", "the boundary is missing, or the form is cut short")
            raise Problem(422, f"expected multipart/form-data with a picture in each part ({said})") from None
        found: list[tuple[bytes, str | None]] = []
        for _, part in form.multi_items():
            if isinstance(part, UploadFile):
                found.append((await part.read(), printable(part.filename) if part.filename else None))
        await form.close()
        return found

    def _from_json(self, body: bytes) -> list[bytes]:
        sentence = 'expected {"pictures": ["base64 of a picture", ...]}'
        if sum(map(body.count, JSON_MARKS)) > MOST_MARKS + len(JSON_MARKS) * self._options.max_pictures:
            raise Problem(
                422, f"{sentence}, got JSON with too many values"
            )  # as objects it would take twenty times its size
        try:
            given: object = json.loads(body)
        except (ValueError, RecursionError):
            raise Problem(422, f"{sentence}, got a body that is not JSON") from None
        pictures = given.get("pictures") if isinstance(given, dict) else None
        if not isinstance(pictures, list):
            raise Problem(422, f"{sentence}; the server fetches no addresses")
        found: list[bytes] = []
        for number, text in enumerate(pictures[: self._options.max_pictures + 1]):
            try:
                found.append(base64.b64decode(text if isinstance(text, str) else "?", validate=True))
            except (binascii.Error, ValueError):
                raise Problem(
                    422, f"{sentence}, pictures.{number} is not base64; the server fetches no addresses"
                ) from None
        return found


async def _drain(request: Request) -> None:
    """Read on for a moment and discard it: a client that is still sending would not get the answer."""

    async def read() -> None:
        left = DRAIN_BYTES
        while left > 0:
            message = await request.receive()
            if message["type"] != "http.request" or not message.get("more_body"):
                return
            left -= max(1, len(message.get("body", b"")))

    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(read(), DRAIN_S)
