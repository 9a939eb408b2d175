"""Shutdown and supervision: requests in flight are completed, systemd is notified, kill -9 loses only requests in flight."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from .conftest import Serve, Served


def test_requests_in_flight_are_answered_at_the_end(serve: Serve, portrait: bytes) -> None:
    """On SIGTERM with thirty pictures of two requests waiting, both are completed, new ones are rejected, and the exit code is 0."""
    served = serve("--workers", "1", "--queue", "64")
    answers: list[int] = []

    def ask() -> None:
        with served.client() as client:
            form = [("a", (f"{i}.jpg", portrait)) for i in range(15)]
            answers.append(client.post("/v1/read", files=form).status_code)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for each in threads:
        each.start()
    with served.client() as client:
        deadline = time.monotonic() + 10
        while "numclip_queue_pictures 0.0" in client.get("/metrics").text and time.monotonic() < deadline:
            pass
    assert served.stop() == 0
    for each in threads:
        each.join()
    assert answers == [200, 200]
    with pytest.raises(httpx.ConnectError), served.client() as client:
        client.get("/healthz")


def test_streams_and_sockets_end_with_the_server(serve: Serve, camera: object) -> None:
    """On SIGTERM with an open preview, result stream and browser camera, all end within some seconds, with exit code 0."""
    camera.start()  # type: ignore[attr-defined]
    served = serve(camera.url)  # type: ignore[attr-defined]
    with (
        served.client() as client,
        connect(f"ws://127.0.0.1:{served.port}/v1/camera"),
        client.stream("GET", "/v1/sources/0/results") as lines,
        client.stream("GET", "/v1/sources/0/preview") as preview,
    ):
        next(lines.iter_lines())
        next(preview.iter_bytes())
        started = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - started < 15


def test_the_supervisor_is_told(serve: Serve, tmp_path: Path) -> None:
    """The server notifies systemd (sd_notify(3)): READY when it listens, WATCHDOG within the timeout, STOPPING at the end."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(path))
        supervisor.settimeout(10)
        served = serve(NOTIFY_SOCKET=str(path), WATCHDOG_USEC="4000000")
        assert b"READY=1" in supervisor.recv(4096)
        started = time.monotonic()
        assert supervisor.recv(4096) == b"WATCHDOG=1"
        assert supervisor.recv(4096) == b"WATCHDOG=1"
        assert time.monotonic() - started < 8
        served.stop()
        while supervisor.recv(4096) != b"STOPPING=1":
            pass


PLANTED = """
import os, threading, time
import numclip.server.api
from numclip.runtime.sessions.model import Model

numclip.server.api.STUCK_S = 1.0
real = Model.__call__

def call(model, crops):
    if os.path.exists({path!r}) and threading.current_thread().name == "answer":
        {fault}
    return real(model, crops)

Model.__call__ = call
"""


@pytest.mark.parametrize(
    ("fault", "hint"),
    [("time.sleep(1000)", "more than 1 s"), ("raise ValueError('planted')", "see the server's log")],
    ids=["a call that does not end", "an unexpected error"],
)
def test_a_fault_while_sources_are_read_is_told(
    serve: Serve, camera: Any, portrait: bytes, tmp_path: Path, fault: str, hint: str
) -> None:
    """A model call for a source that does not end, or an unexpected error there, makes /healthz 503 and ends the notices to systemd,
    although pictures are still read; after the error the source has an event `failed`, which its readers get."""
    path, planted = tmp_path / "notify", tmp_path / "planted"
    (tmp_path / "sitecustomize.py").write_text(PLANTED.format(path=str(planted), fault=fault))
    camera.start(640, 480)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(path))
        supervisor.settimeout(10)
        paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        served = serve(camera.url, NOTIFY_SOCKET=str(path), WATCHDOG_USEC="2000000", PYTHONPATH=paths)
        with served.client() as client, client.stream("GET", "/v1/sources/0/results") as answer:
            while b"WATCHDOG=1" not in supervisor.recv(4096):
                pass
            assert client.get("/healthz").status_code == 200
            planted.touch()
            deadline = time.monotonic() + 20
            while (health := client.get("/healthz")).status_code != 503:
                assert time.monotonic() < deadline, "the fault is not told"
                time.sleep(0.1)
            assert hint in health.json()["detail"]
            assert client.post("/v1/read", content=portrait).status_code == 200
            if "raise" in fault:
                source = client.get("/v1/sources/0").json()
                assert source["state"] == "failed"
                assert "ValueError" in source["events"][-1]["reason"]
                assert json.loads(list(answer.iter_lines())[-1])["event"] == "failed"
        supervisor.settimeout(3)
        with pytest.raises(TimeoutError):
            listen(supervisor, 20)


def listen(supervisor: socket.socket, many: int) -> None:
    """Receive so many notices."""
    for _ in range(many):
        supervisor.recv(4096)


def test_kill_9_loses_only_what_was_in_flight(serve: Serve, portrait: bytes) -> None:
    """With a supervisor that restarts the server after each of three kills, a client that retries after broken connections gets all of
    its forty responses, always the same."""
    served = serve()
    port, over = served.port, threading.Event()

    def supervise() -> None:
        while not over.is_set():
            assert served.process is not None
            served.process.wait()
            if not over.is_set():
                served.start(port)

    supervisor = threading.Thread(target=supervise)
    supervisor.start()
    try:
        told, broken = list[object](), 0
        with served.client() as client:
            while len(told) < 40:
                if len(told) in (10, 20, 30) and broken < len(told) // 10:
                    assert served.process is not None
                    served.process.kill()
                try:
                    answer = client.post("/v1/read", content=portrait)
                except httpx.TransportError:
                    broken += 1
                    time.sleep(0.1)
                    continue
                assert answer.status_code == 200
                told.append(answer.json()["results"][0]["faces"])
        assert broken >= 3
        assert all(faces == told[0] for faces in told)
    finally:
        over.set()
        served.kill()
        supervisor.join(30)


def test_a_second_server_beside_the_first(serve: Serve, portrait: bytes) -> None:
    """Two server processes on two ports are independent."""
    first, second = serve(), serve()
    for each in (first, second):
        assert isinstance(each, Served)
        with each.client() as client:
            assert client.post("/v1/read", content=portrait).status_code == 200
