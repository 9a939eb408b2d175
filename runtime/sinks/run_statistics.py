"""Statistics of a run: counts since the start, percentiles of the latest results, in bounded memory."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..live.frames import Source, SourceEvent, SourceInfo
from ..live.results import FrameResult

RECENT = 1000  # number of latest results for percentiles and rates
PERCENTILES = (50, 95, 99)


def _recent() -> deque[float]:
    return deque(maxlen=RECENT)


@dataclass(frozen=True)
class RunSummary:
    """The summary of a run."""

    frames: int
    """Number of results."""
    faces: int
    """Faces in all results."""
    fresh: int
    """Faces that the model ran on."""
    tracks: int
    """Number of tracks."""
    dropped: int
    """Frames dropped because newer ones had arrived."""
    undecodable: int
    """Frames that were missing, undecodable, or repaired by the decoder."""
    stalls: int
    """How often a live source delivered no frames."""
    reconnects: int
    """How often a live source was opened again."""
    unread: Mapping[str, int]
    """Faces without an estimate, by reason."""
    fps: float | None
    """Results per second over the latest results; None for fewer than two."""
    latency_ms: Mapping[int, float]
    """Time from capture to result: p50, p95 and p99 of the latest results; empty if there are none."""
    movement: float | None
    """How much the shown values fluctuate: their total change per second of a track, in the task's unit; None without tracks."""
    unit: str
    """The task's unit."""
    lost: tuple[SourceEvent, ...]
    """Sources that ended unexpectedly: all that failed, those that stalled and did not return, and, of several live sources, those
    that ended for good."""

    @property
    def complete(self) -> bool:
        """Whether every source was read completely."""
        return not self.lost

    @property
    def sentence(self) -> str:
        """The summary as one line of text."""
        parts = [f"{self.frames} frames", f"{self.faces} faces"]
        parts += [f"{self.tracks} tracks"] if self.tracks else []
        parts += [f"{self.dropped} dropped"] if self.dropped else []
        parts += [f"{self.undecodable} lost or damaged"] if self.undecodable else []
        parts += [f"{self.stalls} stalls, {self.reconnects} reconnects"] if self.stalls else []
        parts += [f"not read: {', '.join(f'{n} {r}' for r, n in self.unread.items())}"] if self.unread else []
        if self.fps is not None:
            numbers = "/".join(f"{v:.0f}" for v in self.latency_ms.values())
            parts.append(f"{self.fps:.0f} frames/s, capture to result {numbers} ms (p50/p95/p99)")
        if self.movement is not None:
            parts.append(f"shown values change by {self.movement:.2f} {self.unit}/s")
        return ", ".join(parts)


@dataclass
class RunStatistics:
    """A sink that only counts."""

    frames: int = 0
    faces: int = 0
    fresh: int = 0  # faces that the model looked at
    stalls: int = 0
    ends: list[SourceEvent] = field(default_factory=lambda: list[SourceEvent]())  # at most one per source
    down: dict[str, SourceEvent] = field(default_factory=lambda: dict[str, SourceEvent]())  # stalled sources, by name
    reasons: Counter[str] = field(default_factory=lambda: Counter[str]())  # reasons for faces without an estimate
    dropped_of: dict[str, int] = field(default_factory=lambda: dict[str, int]())  # by source
    tracks_of: dict[str, int] = field(default_factory=lambda: dict[str, int]())
    latency_ms: deque[float] = field(default_factory=_recent)
    _done_s: deque[float] = field(default_factory=_recent)
    _shown: dict[str, dict[int, tuple[float, float]]] = field(
        default_factory=lambda: dict[str, dict[int, tuple[float, float]]]()
    )  # by source and track: time and value last shown
    _way: float = 0.0
    _way_s: float = 0.0

    def write(self, result: FrameResult) -> None:
        """Count one result."""
        source = result.frame.source
        self.frames += 1
        self.faces += len(result.faces)
        self.fresh += sum(face.fresh for face in result.faces)
        self.reasons.update(face.reason for face in result.faces if face.reason is not None)
        self.dropped_of[source] = result.dropped
        ids = [face.track_id for face in result.faces if face.track_id is not None]
        self.tracks_of[source] = max([self.tracks_of.get(source, 0), *ids])  # ids count from 1 without gaps
        self.latency_ms.append(1000 * result.latency_s)
        self._done_s.append(time.monotonic())
        self._follow_values(result)

    def _follow_values(self, result: FrameResult) -> None:
        before = self._shown.get(result.frame.source, {})
        now: dict[int, tuple[float, float]] = {}
        for face in result.faces:
            if face.track_id is None or face.reading is None:
                continue
            now[face.track_id] = result.frame.time_s, face.reading.value
            if face.track_id in before:
                then_s, value = before[face.track_id]
                self._way += abs(face.reading.value - value)
                self._way_s += max(0.0, result.frame.time_s - then_s)
        self._shown[result.frame.source] = now

    def tell(self, event: SourceEvent) -> None:
        """Count one event."""
        self.stalls += event.kind == "stalled"
        if event.kind in ("ended", "failed"):
            self.ends.append(event)
        if event.kind == "stalled":
            self.down[event.source] = event
        else:
            self.down.pop(event.source, None)

    def close(self) -> None:
        """Nothing to close."""

    @property
    def dropped(self) -> int:
        """Frames dropped so far because newer ones had arrived."""
        return sum(self.dropped_of.values())

    @property
    def tracks(self) -> int:
        """Tracks shown so far."""
        return sum(self.tracks_of.values())

    @property
    def fps(self) -> float | None:
        """Results per second over the latest results."""
        if len(self._done_s) < 2 or self._done_s[-1] <= self._done_s[0]:
            return None
        return (len(self._done_s) - 1) / (self._done_s[-1] - self._done_s[0])

    @property
    def movement(self) -> float | None:
        """How much the shown values fluctuate: their total change per second of a track, in the task's unit; None without tracks."""
        return self._way / self._way_s if self._way_s > 0 else None

    def percentiles(self) -> dict[int, float]:
        """p50, p95 and p99 of `latency_ms` over the latest results; empty if there are none."""
        numbers = list(self.latency_ms)
        return dict(zip(PERCENTILES, np.percentile(numbers, PERCENTILES).tolist(), strict=True)) if numbers else {}

    def summary(self, unit: str, sources: Sequence[Source], infos: Sequence[SourceInfo]) -> RunSummary:
        """The current summary. sources: whose reconnects and dropped frames are counted. infos: their descriptions."""
        cameras = {info.name for info in infos if info.live and not info.files}
        lost = [e for e in self.ends if e.kind == "failed" or (len(infos) > 1 and e.source in cameras)]
        lost += self.down.values()
        return RunSummary(
            frames=self.frames,
            faces=self.faces,
            fresh=self.fresh,
            tracks=self.tracks,
            dropped=self.dropped,
            undecodable=sum(source.undecodable for source in sources),
            stalls=self.stalls,
            reconnects=sum(source.reconnects for source in sources),
            unread=dict(self.reasons.most_common()),
            fps=self.fps,
            latency_ms=self.percentiles(),
            movement=self.movement,
            unit=unit,
            lost=tuple(lost),
        )
