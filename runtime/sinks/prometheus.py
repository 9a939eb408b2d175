"""The state of a run for Prometheus, over HTTP; uses prometheus-client, the official library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...errors import OutputError, UsageError
from ..live.frames import Source, SourceEvent
from ..live.results import FrameResult
from .run_statistics import RunStatistics

BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)  # upper ends


class MetricsSink:
    """Serves /metrics at an address; each request returns the run's current counts and times."""

    def __init__(self, address: str, statistics: RunStatistics, sources: Sequence[Source]) -> None:
        """address: PORT (of this machine only) or HOST:PORT. Raises UsageError, OutputError."""
        host, _, port = address.rpartition(":")
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise UsageError(f"expected --metrics PORT or HOST:PORT, such as 9100, got {address!r}")
        from prometheus_client import CollectorRegistry, Histogram, start_http_server

        self._statistics, self._sources = statistics, sources
        registry = CollectorRegistry()
        registry.register(self)
        self._latency_s = Histogram(
            "numclip_latency_seconds", "Capture to result", buckets=BUCKETS_S, registry=registry
        )
        self._model_s = Histogram(
            "numclip_model_seconds", "Model time per result", buckets=BUCKETS_S, registry=registry
        )
        try:
            self._server, self._thread = start_http_server(int(port), host or "127.0.0.1", registry)
        except OSError as error:
            raise OutputError(
                f"--metrics {address}: cannot listen there ({error.strerror}); choose another port"
            ) from None

    def collect(self) -> Iterator[Any]:
        """The metrics for one request."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        now = self._statistics
        for name, text, value in (
            ("frames", "Results", now.frames),
            ("faces", "Faces in all results", now.faces),
            ("looks", "Faces that the model ran on", now.fresh),
            ("dropped", "Frames skipped because newer ones were there", now.dropped),
            ("stalls", "Times that a live source gave nothing", now.stalls),
            ("reconnects", "Times that a live source was opened again", sum(s.reconnects for s in self._sources)),
            ("undecodable", "Frames or packets not decodable", sum(s.undecodable for s in self._sources)),
        ):
            yield CounterMetricFamily(f"numclip_{name}", text, value=value)
        unread = CounterMetricFamily("numclip_unread", "Faces without a number, by reason", labels=["reason"])
        for reason, many in list(now.reasons.items()):
            unread.add_metric([reason], many)
        yield unread
        yield GaugeMetricFamily("numclip_fps", "Results per second, lately", value=now.fps or 0.0)

    def write(self, result: FrameResult) -> None:
        """Count the times of one result; the run updates the statistics."""
        self._latency_s.observe(result.latency_s)
        self._model_s.observe(result.times_s.get("model", 0.0))

    def tell(self, event: SourceEvent) -> None:
        """Ignore events: the run updates the statistics."""

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
