"""Runs the server: `numclip.server.serve(ServeOptions())` is `numclip serve`."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from ..errors import OutputError
from ..runtime.sinks.systemd import PINGS_PER_TIMEOUT, notify
from .api import Service, Sign
from .connections import MOST_CAMERA_BYTES, PING_S, PONG_S, connection_classes
from .options import ServeOptions

PAGE = Path(__file__).parent / "dist" / "page"
GRACE_S = 30.0  # for requests in flight at the end
BACKLOG = 512
NO_PAGE = (
    b"<!doctype html><title>numclip</title><p>The page is not built in this checkout: run make web. The API works."
)
log = logging.getLogger(__name__)


def serve(options: ServeOptions, say: Callable[[str], None] = print, sign: Sign | None = None) -> None:
    """Serve until SIGINT or SIGTERM, then answer the requests in flight.

    say: gets the address. sign: signs the gate's answers. Raises OutputError for an address that cannot be listened on, SourceError,
    ModelError, DetectorError, DeviceError, UsageError.
    """
    # OpenCV reads its own limit when it is loaded. It is the second defence against a header that lies about the size.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(options.max_pixels))
    if options.webrtc is not None:
        _check_video_address(options.webrtc)
    listener = listen(options)
    with listener:
        service = Service(options, page_files(), sign)
        try:
            asyncio.run(_Server(service, listener, say).serve(sockets=[listener]))
        finally:
            service.scheduler.close(GRACE_S)
            service.live.join()


def page_files(folder: Path = PAGE) -> dict[str, bytes]:
    """The page's files, by their paths on the server."""
    if not (folder / "index.html").is_file():
        return {"/": NO_PAGE}
    files = {f"/{path.name}": path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    return {"/": files.pop("/index.html"), **files}


def listen(options: ServeOptions) -> socket.socket:
    """The listening socket of --host and --port. Raises OutputError.

    Its connections send each piece at once (TCP_NODELAY). Otherwise the body of a response would wait, about 40 ms on Linux, until the
    client acknowledges the head. asyncio sets this only for sockets that were made with a protocol number.
    """
    where = f"{options.host} port {options.port}"
    try:
        family = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((options.host, options.port), family=family, backlog=BACKLOG)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        return listener
    except OSError as error:
        raise OutputError(
            f"{where}: cannot listen there ({error.strerror}); choose another with --host or --port"
        ) from None


def _check_video_address(address: str) -> None:
    """Raise OutputError unless this machine has the address of --webrtc."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as trial:
            trial.bind((address, 0))
    except OSError as error:
        raise OutputError(
            f"--webrtc {address}: cannot take video there ({error.strerror}); give an address of this machine"
        ) from None


class _Server(uvicorn.Server):
    """uvicorn, with the start and end of the sources."""

    def __init__(self, service: Service, listener: socket.socket, say: Callable[[str], None]) -> None:
        self._service, self._listener, self._say = service, listener, say
        options = service.options
        http, ws = connection_classes(options)
        watchdog_s = int(os.environ.get("WATCHDOG_USEC") or 0) / 1e6
        super().__init__(
            uvicorn.Config(
                service.app,
                http=http,
                ws=ws,
                ws_max_size=min(options.max_bytes, MOST_CAMERA_BYTES),
                ws_ping_interval=PING_S,
                ws_ping_timeout=PONG_S,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                log_level=logging.ERROR,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=int(GRACE_S),
                timeout_keep_alive=math.ceil(options.timeout_s),
                timeout_notify=max(1, int(watchdog_s / PINGS_PER_TIMEOUT)) if watchdog_s else 3600,
                callback_notify=self._ping if watchdog_s else None,
            )
        )

    async def _ping(self) -> None:
        if self._service.fault() is None:
            notify("WATCHDOG=1")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, begin to read the sources, tell systemd."""
        await super().startup(sockets)
        self._service.live.start(asyncio.get_running_loop())
        address = self._listener.getsockname()
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        self._say(f"http://{host}:{address[1]}/  (Ctrl-C ends)")
        notify("READY=1", f"STATUS=serving on {host}:{address[1]}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, and answer the requests in flight."""
        notify("STOPPING=1")
        self._service.closing = True
        self._service.live.stop()
        if self._service.webrtc is not None:
            await self._service.webrtc.close()
        await super().shutdown(sockets)
