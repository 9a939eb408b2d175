"""Prometheus metrics over a real socket, and their counts and percentiles."""

from __future__ import annotations

import socket
import urllib.request

import numpy as np
import pytest

from numclip.errors import OutputError, UsageError
from numclip.runtime.contract.model_file import read_spec, resolve
from numclip.runtime.live.frames import Frame, SourceEvent, SourceInfo
from numclip.runtime.live.pictures import PictureSource
from numclip.runtime.live.results import Face, FrameResult
from numclip.runtime.sinks.run_statistics import RECENT, RunStatistics

TASK = read_spec(resolve("age-nano")).task


def _result(index: int, dropped: int = 0, latency_s: float = 0.02, faces: tuple[Face, ...] = ()) -> FrameResult:
    frame = Frame(np.zeros((4, 4, 3), np.uint8), index, index / 10, 0.0, "cam")
    return FrameResult(frame, faces, latency_s, dropped, TASK, {"model": 0.003})


def _unread(track: int, reason: str) -> Face:
    return Face((0, 0, 1, 1), 1.0, None, None, track_id=track, fresh=False, reason=reason)


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_scrape_says_what_the_run_saw() -> None:
    """A scrape returns three results, one stall and two small faces; latencies of 10, 20 and 90 ms fill the buckets."""
    pytest.importorskip("prometheus_client", reason="needs the extra metrics")
    from numclip.runtime.sinks.prometheus import MetricsSink

    statistics, source, port = RunStatistics(), PictureSource(SourceInfo("cam"), []), _port()
    source.reconnects = 1
    sink = MetricsSink(str(port), statistics, [source])
    for i, latency_s in enumerate((0.01, 0.02, 0.09)):
        result = _result(3 * i, 2 * i, latency_s, (_unread(1, "small"),) if i else ())
        statistics.write(result)
        sink.write(result)
    statistics.tell(SourceEvent("stalled", "cam", 1.0))
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    sink.close()
    numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert numbers["numclip_frames_total"] == "3.0" and numbers["numclip_dropped_total"] == "4.0"
    assert numbers["numclip_stalls_total"] == numbers["numclip_reconnects_total"] == "1.0"
    assert numbers['numclip_unread_total{reason="small"}'] == "2.0"
    least = {"0.005": 0, "0.01": 1, "0.02": 2, "0.075": 2, "0.1": 3, "+Inf": 3}
    assert {le: float(numbers[f'numclip_latency_seconds_bucket{{le="{le}"}}']) for le in least} == least
    assert float(numbers["numclip_latency_seconds_sum"]) == pytest.approx(0.12)
    assert numbers["numclip_latency_seconds_count"] == numbers['numclip_model_seconds_bucket{le="0.005"}'] == "3.0"


def test_a_port_that_is_taken() -> None:
    """A port in use, and a port that is not a number, are errors in one sentence."""
    pytest.importorskip("prometheus_client", reason="needs the extra metrics")
    from numclip.runtime.sinks.prometheus import MetricsSink

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OutputError, match="choose another port"):
            MetricsSink(str(taken.getsockname()[1]), RunStatistics(), [])
    with pytest.raises(UsageError, match="such as 9100"):
        MetricsSink("nine", RunStatistics(), [])


def test_memory_is_bounded_over_days() -> None:
    """After 5,000 results and 5,000 tracks the statistics hold RECENT latencies and one track, and still count all."""
    statistics = RunStatistics()
    for i in range(5000):
        statistics.write(_result(i, faces=(_unread(i + 1, "blurred"),)))
    assert statistics.frames == statistics.tracks == statistics.reasons["blurred"] == 5000
    assert len(statistics.latency_ms) == RECENT and len(statistics._shown["cam"]) <= 1


def test_the_sentence_at_the_end() -> None:
    """The summary has frames, faces, tracks, dropped frames, reasons and rates."""
    statistics, source = RunStatistics(), PictureSource(SourceInfo("cam"), [])
    for i in range(3):
        statistics.write(_result(2 * i, i, 0.02, (_unread(1, "small"),)))
    said = statistics.summary("years", [source], []).sentence
    assert said.startswith("3 frames, 3 faces, 1 tracks, 2 dropped, not read: 3 small, ") and "20/20/20 ms" in said
