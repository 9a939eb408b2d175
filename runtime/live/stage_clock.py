"""The time of a frame by stage: a clock that is read at the end of each stage, so that the stages add up to the total."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Laps:
    """The state of a clock, passed from one stage to the next."""

    times_s: Mapping[str, float]  # by stage
    until_s: float  # time.monotonic() at the end of the last one


class StageClock:
    """The laps of one frame, in seconds; laps of the same name add up."""

    def __init__(self, start_s: float, times_s: Mapping[str, float] | None = None) -> None:
        """start_s: time.monotonic() when the frame was captured, or when the earlier laps ended."""
        self.times_s: dict[str, float] = dict(times_s or {})
        self._last_s = start_s

    @classmethod
    def after(cls, laps: Laps) -> StageClock:
        """A clock that continues another."""
        return cls(laps.until_s, laps.times_s)

    def lap(self, stage: str, until_s: float | None = None) -> None:
        """Assign the time since the last lap to this stage."""
        now_s = time.monotonic() if until_s is None else until_s
        self.times_s[stage] = self.times_s.get(stage, 0.0) + now_s - self._last_s
        self._last_s = now_s

    @property
    def laps(self) -> Laps:
        """The current state."""
        return Laps(dict(self.times_s), self._last_s)
