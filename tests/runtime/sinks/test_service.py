"""A supervised run: systemd's protocol over real datagram sockets, and real signals to a process.

No test starts systemd; docs/jetson.md says how to test with it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from numclip.cli.signals import until_terminated
from numclip.runtime.sinks.systemd import ServiceSink, notify


@pytest.fixture(params=["file", "abstract"])
def supervisor(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[socket.socket]:
    """A service manager's socket, by path and by Linux's abstract name."""
    name = f"@numclip-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    if len(name) > 100:
        pytest.skip("the temporary folder's path is too long for a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1))
        listener.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listener


def heard(listener: socket.socket, wait_s: float = 60) -> str:
    listener.settimeout(wait_s)
    return listener.recv(4096).decode()


def test_states_arrive_as_written(supervisor: socket.socket) -> None:
    """States arrive in one datagram, one per line."""
    notify("READY=1", "STATUS=reading /dev/video0")

    assert heard(supervisor) == "READY=1\nSTATUS=reading /dev/video0"


def test_without_a_supervisor_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a socket, or with a closed one, there is no error and the run continues."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")


def test_pings_come_with_results(supervisor: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """READY is sent with the first result, WATCHDOG with a result after a quarter of the timeout, STOPPING at the end."""
    import numpy as np

    from numclip import load
    from numclip.runtime.live.frames import Frame
    from numclip.runtime.live.results import FrameResult

    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    frame = Frame(np.zeros((8, 8, 3), np.uint8), 0, 0.0, 0.0, "/dev/video0")
    result = FrameResult(frame, (), 0.01, 0, load("age-nano", "cpu").spec.task)
    sink = ServiceSink()
    sink.write(result)
    sink.write(result)  # immediately after: too early for a ping
    time.sleep(0.6)
    sink.write(result)
    sink.close()

    assert [heard(supervisor) for _ in range(3)] == ["READY=1\nSTATUS=reading /dev/video0", "WATCHDOG=1", "STOPPING=1"]


def start(url: str, out: Path, **env: str) -> subprocess.Popen[str]:
    words = [
        sys.executable,
        "-m",
        "numclip.cli.main",
        "run",
        url,
        "--device",
        "cpu",
        "--detector",
        "haar",
        "--jsonl",
        str(out),
    ]
    return subprocess.Popen(words, env={**os.environ, **env}, stderr=subprocess.PIPE, text=True)


def whole_lines(out: Path) -> list[dict[str, object]]:
    text = out.read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_service_starts_pings_and_stops(supervisor: socket.socket, stream_url: str, tmp_path: Path) -> None:
    """A service sends READY after the first frame, then pings; SIGTERM gives exit code 0, STOPPING and complete lines."""
    process = start(stream_url, tmp_path / "out.jsonl", WATCHDOG_USEC="400000")
    try:
        assert heard(supervisor).startswith("READY=1\nSTATUS=reading http://")
        assert heard(supervisor) == heard(supervisor) == "WATCHDOG=1"
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()

    assert process.returncode == 0, said
    states = [heard(supervisor)]
    while states[-1] == "WATCHDOG=1":
        states.append(heard(supervisor))
    assert states[-1] == "STOPPING=1"
    assert len(whole_lines(tmp_path / "out.jsonl")) >= 3


def test_a_killed_service_can_start_again(stream_url: str, tmp_path: Path) -> None:
    """SIGKILL leaves complete lines; the same command then starts again and stops cleanly."""
    out = tmp_path / "out.jsonl"
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
        process = start(stream_url, out)
        try:
            until = time.monotonic() + 60
            while not (out.exists() and out.stat().st_size > 500) and time.monotonic() < until:
                time.sleep(0.1)
            process.send_signal(number)
            process.communicate(timeout=60)
        finally:
            process.kill()

        assert process.returncode == code
        assert whole_lines(out)
        out.unlink()


def test_a_camera_that_sends_nothing_is_not_alive(supervisor: socket.socket) -> None:
    """A camera without frames gives no READY, so the supervisor's start timeout applies."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = start(f"http://127.0.0.1:{silent.getsockname()[1]}/none.mjpg", Path(os.devnull))
        try:
            with pytest.raises(TimeoutError):
                heard(supervisor, wait_s=4)
        finally:
            process.kill()
            process.communicate()


def test_work_in_hand_is_finished() -> None:
    """On SIGTERM during work on an item, the item is finished and no further one is requested."""
    done = []
    for item in until_terminated(range(10)):
        if item == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        done.append(item)

    assert done == [0, 1, 2]


def test_waiting_ends_at_once() -> None:
    """On SIGTERM during a wait for the next item, the wait ends at once."""
    woken: list[bool] = []

    def slow() -> Iterator[int]:
        yield 1
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        woken.append(True)
        yield 2

    assert list(until_terminated(slow())) == [1]
    assert woken == []


def test_the_old_handler_comes_back() -> None:
    """After the items, the previous SIGTERM handler is restored."""
    before = signal.getsignal(signal.SIGTERM)

    assert list(until_terminated([1, 2])) == [1, 2]
    assert signal.getsignal(signal.SIGTERM) is before
