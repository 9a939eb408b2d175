"""A run with three cameras: one fails, one stalls and recovers, one works throughout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_one_dies_one_stalls_one_is_healthy(how: signal.Signals, camera) -> None:
    """Each failing camera has its events. Every frame of the working one is a result or counted as dropped. SIGTERM ends the run with
    exit code 1, because one camera did not recover."""
    cameras = [camera, *(type(camera)(camera.code, camera._picture) for _ in range(2))]
    dead, stalling, healthy = cameras
    for one in cameras:
        one.start(320, 240, 10)
    words = [
        sys.executable,
        "-m",
        "numclip.cli.main",
        "run",
        *(c.url for c in cameras),
        "--detector",
        "haar",
        "--jsonl",
        "-",
    ]
    child = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    lines: list[dict[str, Any]] = []
    assert child.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(map(json.loads, child.stdout)), daemon=True)  # type: ignore[arg-type]
    reader.start()

    def wait_for(what: Callable[[dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + 90
        while not any(map(what, list(lines))):
            assert time.monotonic() < deadline and child.poll() is None, lines[-3:]
            time.sleep(0.1)

    try:
        for one in cameras:
            wait_for(lambda line, one=one: line["source"] == one.url and "faces" in line)
        for one in (dead, stalling):
            os.kill(one._process.pid, how)
            one.kill()
        for one in (dead, stalling):
            wait_for(lambda line, one=one: line["source"] == one.url and line.get("event") == "stalled")
        stalling.start(320, 240, 10)
        wait_for(lambda line: line["source"] == stalling.url and line.get("event") == "resumed")
        seen = len(lines)
        wait_for(lambda line: any(x["source"] == stalling.url and "faces" in x for x in lines[seen:]))
        child.send_signal(signal.SIGTERM)
        said = child.stderr.read().decode() if child.stderr is not None else ""
        assert child.wait(30) == 1, said
        reader.join(10)
    finally:
        child.kill()
        for one in cameras:
            one.kill()
    events = {c.url: [line["event"] for line in lines if line["source"] == c.url and "event" in line] for c in cameras}
    # on a busy machine any camera may stall for 2 s; then it has `stalled` and `resumed` events too
    assert [events[c.url][-1:] for c in (dead, stalling)] == [["stalled"], ["resumed"]]
    for kinds in events.values():
        assert kinds == (["stalled", "resumed"] * len(kinds))[: len(kinds)]
    assert events[healthy.url][-1:] != ["stalled"]
    assert all(line["reason"] for line in lines if "event" in line)
    frames = [line for line in lines if line["source"] == healthy.url]
    for count, line in enumerate(frames, 1):
        assert line["frame"] + 1 == count + line["dropped"]
    assert f"{dead.url}: stalled after" in said and "Traceback" not in said
