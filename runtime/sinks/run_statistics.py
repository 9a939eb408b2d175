"""What a run has seen and how it went: counts since the start, percentiles of the last results, in bounded memory."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..live.frames import FrameResult, Source, SourceEvent

RECENT = 1000  # results that percentiles and rates are of
PERCENTILES = (50, 95, 99)


def _recent() -> deque[float]:
    return deque(maxlen=RECENT)


@dataclass
class RunStatistics:
    """A sink that only counts."""

    frames: int = 0
    faces: int = 0
    fresh: int = 0  # faces that the model looked at
    stalls: int = 0
    reasons: Counter[str] = field(default_factory=lambda: Counter[str]())  # why faces show no number
    dropped_of: dict[str, int] = field(default_factory=lambda: dict[str, int]())  # by source
    tracks_of: dict[str, int] = field(default_factory=lambda: dict[str, int]())
    latency_ms: deque[float] = field(default_factory=_recent)
    model_ms: deque[float] = field(default_factory=_recent)
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
        self.model_ms.append(1000 * result.times_s.get("model", 0.0))
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

    def close(self) -> None:
        """Nothing to let go of."""

    @property
    def dropped(self) -> int:
        """Frames skipped so far because newer ones were there."""
        return sum(self.dropped_of.values())

    @property
    def tracks(self) -> int:
        """Tracks shown so far."""
        return sum(self.tracks_of.values())

    @property
    def fps(self) -> float | None:
        """Results per second, lately."""
        if len(self._done_s) < 2 or self._done_s[-1] <= self._done_s[0]:
            return None
        return (len(self._done_s) - 1) / (self._done_s[-1] - self._done_s[0])

    @property
    def movement(self) -> float | None:
        """How restless the shown numbers are: their way per second of a track, in the task's unit; None without tracks."""
        return self._way / self._way_s if self._way_s > 0 else None

    def percentiles(self, name: str) -> dict[int, float]:
        """p50, p95 and p99 of `latency_ms` or `model_ms` over the last results; empty without any."""
        numbers = list(getattr(self, name))
        return dict(zip(PERCENTILES, np.percentile(numbers, PERCENTILES).tolist(), strict=True)) if numbers else {}

    def sentence(self, unit: str, sources: Sequence[Source]) -> str:
        """One line for the end of a run."""
        parts = [f"{self.frames} frames", f"{self.faces} faces"]
        parts += [f"{self.tracks} tracks"] if self.tracks else []
        parts += [f"{self.dropped} dropped"] if self.dropped else []
        lost, again = sum(s.undecodable for s in sources), sum(s.reconnects for s in sources)
        parts += [f"{lost} not decodable"] if lost else []
        parts += [f"{self.stalls} stalls, {again} reconnects"] if self.stalls else []
        parts += [f"not read: {', '.join(f'{n} {r}' for r, n in self.reasons.most_common())}"] if self.reasons else []
        if self.fps is not None:
            numbers = "/".join(f"{v:.0f}" for v in self.percentiles("latency_ms").values())
            parts.append(f"{self.fps:.0f} frames/s, capture to result {numbers} ms (p50/p95/p99)")
        if self.movement is not None:
            parts.append(f"shown numbers move {self.movement:.2f} {unit}/s")
        return ", ".join(parts)
