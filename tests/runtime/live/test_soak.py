"""Half an hour at full speed: memory, threads and file descriptors stay constant.

NUMCLIP_SOAK_MINUTES=30 NUMCLIP_SOAK_REPORT=docs/soak.md pytest -m slow tests/runtime/live/test_soak.py
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

import numclip
from numclip.runtime.faces.opening import open_detector
from numclip.runtime.live.conveyor import Conveyor
from numclip.runtime.live.frames import Arrival, Frame, Source, SourceEvent, SourceInfo
from numclip.runtime.live.pipeline import Pipeline, Rules
from numclip.runtime.live.results import FrameResult
from numclip.runtime.live.sources import open_source
from numclip.runtime.sinks.lines import CsvSink, JsonlSink
from numclip.runtime.sinks.run_statistics import RunStatistics
from numclip.runtime.sinks.sink import Sink
from numclip.runtime.sinks.video import VideoSink

MB = 2**20


class Endless(Source):
    """A clip that repeats without end; each repetition is a new segment, as after a reconnection."""

    def __init__(self, clip: Path) -> None:
        self.name, self._clip, self.stopped = clip.name, clip, False

    def open(self) -> SourceInfo:
        return SourceInfo(self.name, fps=30.0)

    def arrivals(self) -> Iterator[Arrival | SourceEvent]:
        return ((lambda frame=frame: frame) for frame in self._frames())

    def _frames(self) -> Iterator[Frame]:
        index = segment = 0
        while True:
            with open_source(str(self._clip)) as source:
                for frame in source:
                    if self.stopped:
                        return
                    yield replace(frame, index=index, time_s=index / 30, source=self.name, segment=segment)
                    index += 1
            segment += 1

    def stop(self) -> None:
        self.stopped = True


@dataclass(frozen=True)
class State:
    """The state of this process at one moment."""

    minute: float
    frames: int
    rss_mb: float
    threads: int
    files: int


def _soak(clip: Path, folder: Path, minutes: float, detector: str) -> tuple[list[State], RunStatistics]:
    """Run every sink that writes a file on an endless clip."""
    model = numclip.load("age-nano", device="cpu")
    source, statistics, process = Endless(clip), RunStatistics(), psutil.Process()
    states: list[State] = []
    started = last = time.monotonic()
    with ExitStack() as stack:
        sinks: list[Sink] = [
            statistics,
            JsonlSink(str(folder / "o.jsonl"), lambda result: result.to_dict(0.9)),
            CsvSink(str(folder / "o.csv"), model.spec.task, 0.9, counts=False),
            VideoSink(folder / "o.mp4", [source.open()], 0.9, blur=True),
        ]
        for sink in sinks:
            stack.callback(sink.close)
        pipeline = Pipeline(model, open_detector(detector), Rules())
        conveyor = stack.enter_context(Conveyor([source], pipeline))
        for item in conveyor:
            for sink in sinks:
                sink.tell(item) if isinstance(item, SourceEvent) else sink.write(item)
            now = time.monotonic()
            if now - last >= min(10, minutes * 3):
                last = now
                minute = (now - started) / 60
                rss_mb = process.memory_info().rss / MB
                states.append(State(minute, statistics.frames, rss_mb, process.num_threads(), process.num_fds()))
            if now - started > 60 * minutes:
                assert isinstance(item, FrameResult)
                break
    return states, statistics


def _report(states: list[State], statistics: RunStatistics) -> str:
    rows = [states[round(i)] for i in np.linspace(0, len(states) - 1, 11)]
    lines = [f"| {s.minute:.1f} | {s.frames} | {s.rss_mb:.1f} | {s.threads} | {s.files} |" for s in rows]
    p50, p95, p99 = statistics.percentiles().values()
    return "\n".join(
        [
            "# Soak test\n",
            f"`tests/runtime/live/test_soak.py` on {platform.machine()} with {os.cpu_count()} CPU cores and Python {platform.python_version()}.",
            "The clip of two people was read again and again, as fast as possible. JSON lines, a CSV table and an annotated, blurred video",
            "were written. Each start of the clip is a new segment, so people are forgotten and detected again. The load of the machine in the",
            f"last minute was {os.getloadavg()[0]:.1f}.\n",
            f"{states[-1].minute:.1f} minutes, {statistics.frames} frames, {statistics.tracks} tracks. Capture to result of the last 1000 results: "
            f"{p50:.0f}/{p95:.0f}/{p99:.0f} ms (p50/p95/p99).",
            f"Growth of resident memory after the first tenth: {_growth_mb(states):.1f} MB.\n",
            "| minute | frames | RSS, MB | threads | file descriptors |",
            "|--:|--:|--:|--:|--:|",
            *lines,
            "",
        ]
    )


def _growth_mb(states: list[State]) -> float:
    """Return the median of the last tenth minus that of the second tenth."""
    rss, tenth = [s.rss_mb for s in states], max(1, len(states) // 10)
    return float(np.median(rss[-tenth:]) - np.median(rss[tenth : 2 * tenth]))


def _check(states: list[State]) -> None:
    settled = states[len(states) // 10 :]
    assert _growth_mb(states) < 20
    clip_threads = 1 + (os.cpu_count() or 1)  # threads of the scaler, which change with each start of the clip
    assert max(s.threads for s in settled) - min(s.threads for s in settled) <= clip_threads
    half = len(settled) // 2
    assert max(s.threads for s in settled[half:]) <= max(s.threads for s in settled[:half])
    assert max(s.files for s in settled) - min(s.files for s in settled) <= 1, "the clip is open or was just closed"


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_half_an_hour(two_people: Path, yunet_model: Path, tmp_path: Path) -> None:
    """Over 30 minutes memory grows by less than 20 MB, and threads and file descriptors are constant."""
    states, statistics = _soak(two_people, tmp_path, float(os.environ.get("NUMCLIP_SOAK_MINUTES", "30")), "yunet")
    if "NUMCLIP_SOAK_REPORT" in os.environ:
        Path(os.environ["NUMCLIP_SOAK_REPORT"]).write_text(_report(states, statistics), encoding="utf-8")
    _check(states)


def test_a_quarter_of_a_minute(two_people: Path, yunet_model: Path, tmp_path: Path) -> None:
    """The same holds over 15 s, in a process of its own: this one's memory also depends on the tests before."""
    words = [sys.executable, __file__, str(two_people), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Growth of resident memory" in done.stdout


def main() -> None:
    """Read the clip argv[1] for 15 s, check the states, and print the report; files go into the folder argv[2]."""
    states, statistics = _soak(Path(sys.argv[1]), Path(sys.argv[2]), 0.25, "yunet")
    assert statistics.frames > 30 and len(states) >= 10
    _check(states)
    print(_report(states, statistics))


if __name__ == "__main__":
    main()
