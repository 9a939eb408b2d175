"""A browser's camera over a WebSocket: pictures come as messages, a JSON line answers each that is read; the newest goes first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from starlette.websockets import WebSocket, WebSocketDisconnect

from ..runtime.live.frames import Frame, SourceEvent
from ..runtime.live.results import FrameResult
from .live import Live, LiveSource
from .pictures import Sent, decode
from .problems import Problem
from .reader import Reader
from .scheduler import Overloaded, Scheduler, ShutDown

PAUSE_S = 0.05  # before a camera asks again for a place in a full queue
CLOSE_UNSUPPORTED, CLOSE_GOING_AWAY = 1003, 1001


class Camera:
    """One browser's camera."""

    def __init__(self, source: LiveSource, reader: Reader, max_pixels: int) -> None:
        self._source, self._max_pixels = source, max_pixels
        self._pipeline = reader.live_pipeline()
        self.opened_s = time.monotonic()
        self._came, self._handed = 0, 0
        self._newest: tuple[int, Sent] | None = None
        self._changed = asyncio.Event()
        self._over = False

    def read(self, frames: Sequence[tuple[int, Sent]]) -> list[FrameResult | Exception]:
        """What is in the one frame that waits; in a worker's thread."""
        index, sent = frames[0]
        try:
            image = decode(sent, self._max_pixels)
        except Problem as problem:
            return [problem]
        time_s = sent.arrived_s - self.opened_s
        return [self._pipeline.read(Frame(image, index, time_s, sent.arrived_s, self._source.name))]

    async def receive(self, socket: WebSocket) -> None:
        """Keep the newest picture, until the browser goes."""
        try:
            while True:
                data = await socket.receive_bytes()
                self._newest = self._came, Sent(data, None, time.monotonic())
                self._came += 1
                self._changed.set()
        except (WebSocketDisconnect, KeyError):  # gone, or a text message
            pass
        finally:
            self._over = True
            self._changed.set()

    async def answer(self, socket: WebSocket, scheduler: Scheduler, client: str) -> None:
        """Read the newest picture, and say what is in it, again and again. Raises Problem for what is no picture."""
        while True:
            while self._newest is None:
                if self._over:
                    return
                self._changed.clear()
                await self._changed.wait()
            frame, self._newest = self._newest, None
            try:
                result = await asyncio.wrap_future(scheduler.submit(frame, client, self.read))
            except Overloaded:
                await asyncio.sleep(PAUSE_S)
                self._newest = self._newest or frame
                continue
            assert isinstance(result, FrameResult)
            self._handed += 1
            latency_s = time.monotonic() - result.frame.captured_s
            result = replace(result, latency_s=latency_s, dropped=result.frame.index + 1 - self._handed)
            seen = self._source.tell(result)
            await socket.send_text(seen.line.decode())


async def follow(socket: WebSocket, live: Live, reader: Reader, scheduler: Scheduler, max_pixels: int) -> None:
    """Serve one browser's camera until it goes, or the server ends."""
    await socket.accept()
    source = live.add_camera()
    camera = Camera(source, reader, max_pixels)
    client = socket.client.host if socket.client else "unknown"
    watch = source.watch()  # hears of the server's end
    tasks = [
        asyncio.ensure_future(camera.receive(socket)),
        asyncio.ensure_future(camera.answer(socket, scheduler, f"{client} {source.id}")),
        asyncio.ensure_future(watch.take()),
    ]
    reason, code = "", CLOSE_GOING_AWAY
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[1].done():
            tasks[1].result()
    except Problem as problem:
        event = SourceEvent("failed", source.name, time.monotonic() - camera.opened_s, problem.detail)
        reason, code = problem.detail, CLOSE_UNSUPPORTED
        await socket.send_text(source.tell(event).line.decode())
    except (ShutDown, WebSocketDisconnect, RuntimeError):  # nobody is there to hear
        pass
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        live.remove(source)
        with suppress(RuntimeError):  # it has gone
            await socket.close(code, reason[:100])
