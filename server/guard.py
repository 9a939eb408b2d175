"""Access control: host, origin and token are checked first. Every answer carries the security headers."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics
from .options import ServeOptions
from .problems import MEDIA_TYPE, body_of

COOKIE = "numclip"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
OPEN_PATHS = ("/", "/healthz", "/readyz", "/openapi.json", "/v1/login")  # and the page's own files
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
SAFE = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Refuses requests that are not allowed, and counts all requests."""

    def __init__(self, app: ASGIApp, options: ServeOptions, page: Mapping[str, bytes], metrics: Metrics) -> None:
        self._app, self._options, self._metrics = app, options, metrics
        self._open = {*OPEN_PATHS, *page}
        self._token = None if options.token is None else _digest(options.token)
        self.cookie = "" if options.token is None else cookie_of(options.token)
        self._cookie = _digest(self.cookie)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        started_s, status = time.monotonic(), 500

        async def headed(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        try:
            if refusal is None:
                await self._app(scope, receive, headed)
            else:
                await _refuse(scope, headed, *refusal)
        finally:
            if scope["type"] == "http":
                route = getattr(scope.get("route"), "path", "unknown")
                self._metrics.answered(route, status, time.monotonic() - started_s)

    def _refusal(self, scope: Scope) -> tuple[int, str, dict[str, str]] | None:
        """Status, sentence and headers of a refusal. None lets the request pass."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._token is None and not self._options.open_to_all and not self._is_local(host):
            # DNS rebinding: a page of another site, whose name resolves to this machine
            return (
                421,
                f"expected the host localhost, got {host[:100]!r}; another name needs a token, or --open-to-all",
                {},
            )
        method = scope.get("method", "")
        origin = headers.get("origin")
        if (
            origin is not None
            and (scope["type"] == "websocket" or method not in SAFE)
            and not self._knows(origin, host)
        ):
            return 403, f"expected a page of this server, got one of {origin[:100]!r}; --cors ORIGIN lets it in", {}
        if self._token is None or scope["path"] in self._open or self._shown(headers):
            return None
        if method == "OPTIONS" and origin in self._options.cors:
            return None
        return (
            401,
            "expected the header Authorization: Bearer TOKEN, with this server's token",
            {"WWW-Authenticate": "Bearer"},
        )

    def _is_local(self, host: str) -> bool:
        name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
        return name.lower() in (*LOCAL_NAMES, self._options.host)

    def _knows(self, origin: str, host: str) -> bool:
        try:
            return origin in self._options.cors or urlsplit(origin).netloc == host
        except ValueError:  # not an address, such as http://[
            return False

    def _shown(self, headers: Headers) -> bool:
        """Whether the request has the token, in the header or as the page's cookie."""
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._token is not None and hmac.compare_digest(_digest(token.strip()), self._token)
        pairs = (pair.partition("=") for pair in headers.get("cookie", "").split(";"))
        found = next((value for name, _, value in pairs if name.strip() == COOKIE), None)
        return found is not None and hmac.compare_digest(_digest(found.strip()), self._cookie)


def cookie_of(token: str) -> str:
    """The value of the page's cookie, which is not the token itself."""
    return hmac.new(token.encode(), b"numclip page", hashlib.sha256).hexdigest()


def same_token(given: str, token: str) -> bool:
    """Whether they are equal, compared in constant time."""
    return hmac.compare_digest(_digest(given), _digest(token))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


async def _refuse(scope: Scope, send: Send, status: int, detail: str, headers: dict[str, str]) -> None:
    kind = "http.response" if scope["type"] == "http" else "websocket.http.response"
    if kind == "websocket.http.response" and kind not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    body = body_of(status, detail)
    told = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), **headers}
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in told.items()]
    await send({"type": f"{kind}.start", "status": status, "headers": raw})
    await send({"type": f"{kind}.body", "body": body})
