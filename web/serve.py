"""Serve a site on localhost with the headers that a host should send; docs/web.md lists them for nginx and Caddy."""

from __future__ import annotations

import http.server
import tempfile
import webbrowser
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..errors import OutputError
from .bundle import SiteOptions, write_site

PORT = 8080

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; media-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",  # this and the next isolate the page, so that it may use threads
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
}


class SiteServer(http.server.ThreadingHTTPServer):
    """A server of one folder on 127.0.0.1; port 0 picks a free port. It records the path of every request."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0, isolated: bool = True, max_age_s: int = 0) -> None:
        """isolated: send all headers; False imitates a static host that sends none of them. max_age_s: how long a
        browser may cache files without revalidation; use 0 for a site that changes at the same address."""
        headers = dict(HEADERS) if isolated else {}
        headers["Cache-Control"] = f"max-age={max_age_s}" if max_age_s else "no-cache"
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", port), partial(_Handler, headers, self.requests, directory=str(folder)))

    @property
    def url(self) -> str:
        """Address of the site."""
        return f"http://localhost:{self.server_address[1]}/"


def show(folder: Path, port: int, say: Callable[[str], None], open_browser: bool = False) -> int:
    """Serve a site until Ctrl-C; `say` gets its address. Raises OutputError if the port is in use."""
    try:
        server = SiteServer(folder, port)
    except OSError as error:
        raise OutputError(f"cannot serve on port {port} ({error.strerror}); choose another with --port") from None
    with server:
        say(f"{server.url}  (stop with Ctrl-C)")
        if open_browser:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def show_temporary(model: str, finder: str, port: int, say: Callable[[str], None], open_browser: bool = False) -> int:
    """Write a site into a temporary folder and serve it until Ctrl-C."""
    with tempfile.TemporaryDirectory(prefix="numclip-web-") as temporary:
        return show(write_site(SiteOptions(Path(temporary) / "site", model, finder)).folder, port, say, open_browser)


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = TYPES
    protocol_version = "HTTP/1.1"

    def __init__(self, headers: dict[str, str], requests: list[str], *args: object, directory: str) -> None:
        self._headers, self._requests = headers, requests
        super().__init__(*args, directory=directory)  # pyright: ignore[reportArgumentType]

    def do_GET(self) -> None:
        """Record the path and serve the file."""
        self._requests.append(self.path)
        super().do_GET()

    def end_headers(self) -> None:
        """Add the headers to every response."""
        for name, value in self._headers.items():
            self.send_header(name, value)
        super().end_headers()

    def list_directory(self, path: str | object) -> None:
        """Respond 404: folders are not listed."""
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: visits are private."""
