"""Timestamps of pictures: the clock of a file as a player runs it, and the frames of a stream that are missing."""

from __future__ import annotations

from collections import deque
from statistics import median

JITTER_S = 0.2  # a smaller step back is jitter, not a restart
USUAL = 30  # number of steps that the usual step is computed from
GAP_S = 10.0  # after a longer step forward all tracks end


class MissingFrames:
    """Counts the missing frames of a packet stream from the gaps in its timestamps, because FFmpeg does not report them.

    A gap is one step of at least two usual steps between usual ones; several long steps in a row mean that the camera has become
    slower.
    """

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._steps_s: deque[float] = deque(maxlen=USUAL)
        self._long: list[int] = []  # frames missing in the latest long steps; counted only if there was a single one

    def before(self, time_s: float) -> int:
        """How many frames were missing before the frame with this time."""
        last_s, self._last_s = self._last_s, time_s
        if last_s is None:
            return 0
        step_s = time_s - last_s
        usual_s = median(self._steps_s) if len(self._steps_s) >= USUAL // 2 else 0.0
        self._steps_s.append(step_s)
        if usual_s > 0 and 1.6 * usual_s < step_s < GAP_S:
            self._long.append(round(step_s / usual_s) - 1)
            return 0
        missing, self._long = self._long, []
        return missing[0] if len(missing) == 1 else 0


class MediaClock:
    """A clock that starts at 0 and never runs backwards, made from timestamps as they arrive.

    After a jump in the timestamps (joined files, a discontinuity, a counter that wraps) the next picture follows the last one
    directly, and a new segment begins.
    """

    def __init__(self, frame_s: float, jump_s: float = GAP_S) -> None:
        """frame_s: the duration of a picture that states none. jump_s: a longer step forward counts as a jump, not as a pause."""
        self._frame_s, self._jump_s = frame_s, jump_s
        self._last_s: float | None = None  # the raw timestamp
        self.due_s = 0.0  # when the last picture ends, by its raw timestamps
        self._shift_s, self._time_s = 0.0, 0.0
        self.segment = 0
        self.covered_s = 0.0  # time that has pictures: without the gaps
        self.gap_s = 0.0  # the longest step forward without a picture

    def at(self, time_s: float | None, lasts_s: float | None = None) -> float:
        """The time of the next picture; also sets `segment`. lasts_s: the duration that the picture states."""
        lasts_s = lasts_s or self._frame_s
        if self._last_s is None:
            self._shift_s = -(time_s or 0.0)
            self._last_s, self.due_s = time_s or 0.0, (time_s or 0.0) + lasts_s
            self.covered_s = lasts_s
            return 0.0
        if time_s is None:
            time_s = self.due_s
        if time_s < self._last_s - JITTER_S or time_s > self.due_s + self._jump_s:
            self._shift_s += self.due_s - time_s
            self.segment += 1
        elif time_s - self._last_s > GAP_S:
            self.segment += 1
        self.covered_s += lasts_s
        self.gap_s = max(self.gap_s, time_s - self.due_s)
        self._last_s, self.due_s = time_s, time_s + lasts_s
        self._time_s = max(self._time_s, time_s + self._shift_s)
        return self._time_s
