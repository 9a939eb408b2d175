"""A real MQTT broker for the tests of this folder."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Return a free port."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture(scope="module")
def mosquitto() -> Iterator[Callable[[Path, int], subprocess.Popen[bytes]]]:
    """Starts mosquitto with a settings file and returns its process when it listens; it is killed at the end of the test file."""
    binary = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if binary is None:
        pytest.skip("needs mosquitto: apt-get install mosquitto")
    running: list[subprocess.Popen[bytes]] = []

    def start(settings: Path, port: int) -> subprocess.Popen[bytes]:
        running.append(subprocess.Popen([binary, "-c", str(settings)], stderr=subprocess.DEVNULL))
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()
