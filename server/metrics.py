"""Metrics for Prometheus, through prometheus-client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from .live import Live
    from .scheduler import Scheduler

SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Counts requests, and reports the queue and the sources as they are when Prometheus asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "numclip_requests", "Requests answered, by path and status", ["path", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "numclip_request_seconds", "From a request's head to the end of its answer", ["path"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._pictures = Counter("numclip_pictures", "Pictures read for requests", registry=self.registry)
        self._faces = Counter("numclip_faces", "Faces in them", registry=self.registry)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def read(self, pictures: int, faces: int) -> None:
        """Count pictures that were read, and the faces in them."""
        self._pictures.inc(pictures)
        self._faces.inc(faces)

    def watch(self, scheduler: Scheduler, live: Live) -> None:
        """Report these too."""
        self.registry.register(_State(scheduler, live))

    def text(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class _State(Collector):
    def __init__(self, scheduler: Scheduler, live: Live) -> None:
        self._scheduler, self._live = scheduler, live

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("numclip_queue_pictures", "Pictures that wait", value=self._scheduler.waiting)
        batches = CounterMetricFamily("numclip_batches", "Calls of the model, by pictures in them", labels=["pictures"])
        for size, many in sorted(self._scheduler.batches.items()):
            batches.add_metric([str(size)], many)
        yield batches
        labels = ["source"]
        up = GaugeMetricFamily("numclip_source_up", "1 where frames come", labels=labels)
        frames = CounterMetricFamily("numclip_source_frames", "Results of a source", labels=labels)
        faces = CounterMetricFamily("numclip_source_faces", "Faces in its results", labels=labels)
        dropped = CounterMetricFamily(
            "numclip_source_dropped", "Frames skipped because newer ones were there", labels=labels
        )
        people = CounterMetricFamily("numclip_source_people", "Tracks shown", labels=labels)
        latency = GaugeMetricFamily(
            "numclip_source_latency_seconds", "Capture to result, of the last results", labels=["source", "quantile"]
        )
        now = GaugeMetricFamily("numclip_last_hour_people", "People of the last hour", labels=["source", "word"])
        for source in self._live:
            if source.private:
                continue
            counted, name = source.statistics, [source.name]
            up.add_metric(name, float(source.state == "live"))
            frames.add_metric(name, counted.frames)
            faces.add_metric(name, counted.faces)
            dropped.add_metric(name, counted.dropped)
            people.add_metric(name, counted.tracks)
            for percent, value in counted.percentiles().items():
                latency.add_metric([*name, f"{percent / 100:g}"], value / 1000)
            for word, minutes in source.last_hour().items():
                now.add_metric([*name, word], sum(minutes))
        yield from (up, frames, faces, dropped, people, latency, now)
        yield GaugeMetricFamily("numclip_cameras", "Browsers' cameras connected", value=self._live.cameras)
