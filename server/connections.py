"""Connections of clients, with the limits that uvicorn lacks: the time and size of a request's head, the time that a client may leave
its answer unread, and the number of connections."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from .options import ServeOptions
from .problems import MEDIA_TYPE, body_of

MOST_HEAD_BYTES = 64 << 10
CAMERA = "/v1/camera"
MOST_CAMERA_BYTES = 4 << 20  # largest picture of a browser's camera
MOST_WORD_BYTES = 1024  # largest message on the other WebSockets, which expect none
# A browser that vanishes without closing is noticed within the sum of these.
PING_S, PONG_S = 1.5, 2.5


class _Connection(HttpToolsProtocol):
    """An HTTP connection."""

    timeout_s: float
    most: int
    _head: asyncio.TimerHandle | None = None  # runs while a head is expected
    _stall: asyncio.TimerHandle | None = None  # runs while the client reads nothing
    _head_bytes = 0
    _idle_since_s = 0.0  # loop time

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._idle_since_s = self.loop.time()
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > self.most:
            idle = [each for each in self.connections if isinstance(each, _Connection) and each._is_idle]
            oldest = min(idle, key=lambda each: each._idle_since_s, default=self)
            oldest.transport.abort()
            self.connections.discard(oldest)

    @property
    def _is_idle(self) -> bool:
        """Whether the server is answering no request on it."""
        return self.cycle is None or self.cycle.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        self._taken()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head is not None and self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, f"expected a head of at most {MOST_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._head_is_there()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        self._idle_since_s = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed request with a problem too."""
        self._refuse(400, "expected a well-formed HTTP/1.1 request")

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self.timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._taken()
        self.flow.resume_writing()

    def _await_head(self) -> None:
        if self._head is None:
            self._head_bytes = 0
            self._head = self.loop.call_later(self.timeout_s, self._late)

    def _head_is_there(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _taken(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _late(self) -> None:
        if self._head_bytes:
            self._refuse(408, f"expected the head of a request within {self.timeout_s:g} s")
        else:
            self.transport.close()

    def _refuse(self, status: int, detail: str) -> None:
        body = body_of(status, detail)
        head = f"HTTP/1.1 {status} \r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()


class _Socket(WebSocketsSansIOProtocol):
    """A WebSocket."""

    timeout_s: float
    _stall: asyncio.TimerHandle | None = None

    def handle_connect(self, event: Request) -> None:
        if not event.path.partition("?")[0].endswith(CAMERA):
            self.conn.max_message_size = MOST_WORD_BYTES
        super().handle_connect(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self.timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stall is not None:
            self._stall.cancel()
        super().connection_lost(exc)


def connection_classes(options: ServeOptions) -> tuple[type[HttpToolsProtocol], type[WebSocketsSansIOProtocol]]:
    """The classes of HTTP and WebSocket connections with these limits."""
    bounds: dict[str, object] = {"timeout_s": options.timeout_s, "most": options.max_connections}
    return type("Connection", (_Connection,), bounds), type("Socket", (_Socket,), bounds)
