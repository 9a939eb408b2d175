"""Where a frame's time goes: a clock that is read at the end of each stage, so that the stages add up to the whole."""

from __future__ import annotations

import time


class StageClock:
    """The laps of one frame, in seconds; a lap of the same name adds up."""

    def __init__(self, start_s: float) -> None:
        """start_s: time.monotonic() when the frame was captured."""
        self.times_s: dict[str, float] = {}
        self._last_s = start_s

    def lap(self, stage: str, until_s: float | None = None) -> None:
        """All time since the last lap was this stage's."""
        now_s = time.monotonic() if until_s is None else until_s
        self.times_s[stage] = self.times_s.get(stage, 0.0) + now_s - self._last_s
        self._last_s = now_s
