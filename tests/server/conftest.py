"""A real server for these tests: `numclip serve` as a separate process on a free port."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import psutil
import pytest

for package in ("fastapi", "uvicorn", "websockets", "python_multipart"):
    pytest.importorskip(package, reason="needs the extra server")

TOKEN = "a-token-of-this-test-0123456789"


class Served:
    """A `numclip serve` process with given flags."""

    def __init__(self, flags: tuple[str, ...], log: Path, env: dict[str, str]) -> None:
        self._flags, self._log, self._env = flags, log, env
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self, port: int = 0) -> Served:
        """Start the server and return when it listens."""
        words = [sys.executable, "-m", "numclip.cli.main", "serve", "--port", str(port), *self._flags]
        log = self._log.open("wb")
        self.process = subprocess.Popen(words, stderr=log, stdout=log, env={**os.environ, **self._env})
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = re.search(r"http://[^/]+:(\d+)/", self.said)
            if found:
                self.port = int(found[1])
                return self
            assert self.process.poll() is None, self.said
            time.sleep(0.05)
        raise AssertionError(f"the server does not start: {self.said}")

    @property
    def said(self) -> str:
        """The server's output so far."""
        return self._log.read_text()

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def memory_mb(self) -> float:
        """The server's resident memory, MB."""
        assert self.process is not None
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def client(self, **options: object) -> httpx.Client:
        """A client of the server."""
        return httpx.Client(base_url=self.url, timeout=30, **options)  # type: ignore[arg-type]

    def stop(self) -> int:
        """Send SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(40)

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers, which are stopped at the end of the test."""
    servers: list[Served] = []

    def start(*flags: str, port: int = 0, **env: str) -> Served:
        served = Served(flags, tmp_path / f"server-{len(servers)}.log", env)
        servers.append(served)
        return served.start(port)

    yield start
    for served in servers:
        served.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server with default flags for the tests of a file."""
    served = Served((), tmp_path_factory.mktemp("server") / "server.log", {}).start()
    yield served
    served.kill()


@pytest.fixture
def api(server: Served) -> Iterator[httpx.Client]:
    """A client of the server."""
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def portrait(hopper: np.ndarray) -> bytes:
    """Grace Hopper as a JPEG."""
    return cv2.imencode(".jpg", hopper, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
