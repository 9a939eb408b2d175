"""A browser's camera. Its newest picture waits to be read; older ones are dropped. Here pictures come over a WebSocket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from ..runtime.live.capture import STALL_S
from ..runtime.live.frames import Frame, SourceEvent
from ..runtime.live.results import FrameResult
from .live import Live, LiveSource, first_of
from .options import ServeOptions
from .pictures import Image, Sent, decode
from .problems import Problem
from .reader import Reader
from .scheduler import Overloaded, Scheduler, ShutDown

PAUSE_S = 0.05  # before a camera asks again for a place in a full queue
CLOSE_UNSUPPORTED, CLOSE_GOING_AWAY, CLOSE_POLICY = 1003, 1001, 1008
Picture = TypeVar("Picture")


@dataclass(frozen=True, eq=False)
class _Waiting(Generic[Picture]):
    number: int
    picture: Picture
    arrived_s: float  # time.monotonic()
    segment: int


class Camera(Generic[Picture]):
    """One browser's camera."""

    def __init__(self, source: LiveSource, reader: Reader, decode: Callable[[Picture], Image]) -> None:
        """decode: turns a picture into uint8 BGR [H, W, 3], in a worker's thread. It raises Problem for a picture that it cannot read."""
        self.source, self._decode = source, decode
        self._pipeline = reader.live_pipeline()
        self._opened_s = time.monotonic()
        self._handed = 0
        self._arrived_s, self._segment = self._opened_s, 0  # of the last picture
        self._newest: _Waiting[Picture] | None = None
        self._changed = asyncio.Event()
        self._over = False

    def put(self, picture: Picture, number: int) -> None:
        """Keep a new picture in place of the one that waits. number: how many pictures came before it.

        After a pause in which another source would have stalled, a new segment begins: people are not followed across it.
        """
        now_s = time.monotonic()
        self._segment += now_s - self._arrived_s > STALL_S
        self._arrived_s = now_s
        self._newest = _Waiting(number, picture, now_s, self._segment)
        self._changed.set()

    def end(self) -> None:
        """Let `answer` return, since no more pictures come."""
        self._over = True
        self._changed.set()

    def fail(self, problem: Problem) -> bytes:
        """Record why the server gives this camera up. Returns the event as a JSON line."""
        event = SourceEvent("failed", self.source.name, time.monotonic() - self._opened_s, problem.detail)
        seen = self.source.tell(event)
        self.source.show(seen)
        return seen.line

    async def answer(self, scheduler: Scheduler, client: str, tell: Callable[[FrameResult], Awaitable[None]]) -> None:
        """Read the newest picture and hand its result to `tell`, again and again until `end`. Raises Problem, ShutDown."""
        while True:
            while self._newest is None:
                if self._over:
                    return
                self._changed.clear()
                await self._changed.wait()
            waiting, self._newest = self._newest, None
            try:
                result = await asyncio.wrap_future(scheduler.submit(waiting, client, self._read))
            except Overloaded:
                await asyncio.sleep(PAUSE_S)
                self._newest = self._newest or waiting
                continue
            assert isinstance(result, FrameResult)
            self._handed += 1
            latency_s = time.monotonic() - waiting.arrived_s
            await tell(replace(result, latency_s=latency_s, dropped=waiting.number + 1 - self._handed))

    def _read(self, pictures: Sequence[_Waiting[Picture]]) -> list[FrameResult | Exception]:
        """Read one picture, in a worker's thread."""
        waiting = pictures[0]
        try:
            image = self._decode(waiting.picture)
        except Problem as problem:
            return [problem]
        time_s = waiting.arrived_s - self._opened_s
        name, number, segment = self.source.name, waiting.number, waiting.segment
        return [self._pipeline.read(Frame(image, number, time_s, waiting.arrived_s, name, segment=segment))]


async def follow(
    socket: WebSocket, source: LiveSource, live: Live, reader: Reader, scheduler: Scheduler, options: ServeOptions
) -> None:
    """Serve one browser's camera over a WebSocket until it disconnects, sends nothing for `timeout_s`, or the server ends."""
    camera = Camera[Sent](source, reader, lambda sent: decode(sent, options.max_pixels))
    client = socket.client.host if socket.client else "unknown"

    async def receive() -> None:
        number = 0
        with suppress(WebSocketDisconnect, KeyError):  # it has gone, or sent a text message
            while True:
                try:
                    data = await asyncio.wait_for(socket.receive_bytes(), options.timeout_s)
                except asyncio.TimeoutError:
                    raise Problem(408, f"expected a picture within {options.timeout_s:g} s, none came") from None
                camera.put(Sent(data, None, time.monotonic()), number)
                number += 1

    async def tell(result: FrameResult) -> None:
        await socket.send_text(source.tell(result).line.decode())

    reason, code = "", CLOSE_GOING_AWAY
    try:
        await socket.accept()
        answering = camera.answer(scheduler, f"{client} {source.id}", tell)
        for task in await first_of(
            receive(), answering, source.watch().take()
        ):  # the last one ends when the server does
            task.result()
    except Problem as problem:
        reason, code = problem.detail, CLOSE_POLICY if problem.status == 408 else CLOSE_UNSUPPORTED
        with suppress(RuntimeError, WebSocketDisconnect):
            await socket.send_text(camera.fail(problem).decode())
    except (ShutDown, WebSocketDisconnect, RuntimeError):  # nobody is there to hear
        pass
    finally:
        live.remove(source)
        with suppress(RuntimeError):  # it has gone
            await socket.close(code, reason[:100])
