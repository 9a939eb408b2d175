"""What the times of pictures say: the clock of a file as a player runs it, and the frames of a stream that never came."""

from __future__ import annotations

from collections import deque
from statistics import median

JITTER_S = 0.2  # a step back by less is no new beginning
USUAL = 30  # steps by which the usual one is known
GAP_S = 10.0  # after a longer step forward nobody is followed


class MissingFrames:
    """Counts the frames of a packet stream that never came, by the holes in its clock: FFmpeg does not say.

    A hole is one step of at least two usual ones between usual ones; several long steps in a row are a camera that has
    become slower.
    """

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._steps_s: deque[float] = deque(maxlen=USUAL)
        self._long: list[int] = []  # frames missing from the last steps, which were long; counted if it was only one

    def before(self, time_s: float) -> int:
        """How many are known to have been missing, now that a frame of this time is there."""
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
    """Times as they come, made to start at 0 and never to fall.

    Where they jump (joined files, a discontinuity, a counter that wraps), the next picture follows the last one as if
    nothing had happened, and a new segment begins.
    """

    def __init__(self, frame_s: float, jump_s: float = GAP_S) -> None:
        """frame_s: how long a picture lasts that does not say so. jump_s: a longer step forward is no pause, but a jump."""
        self._frame_s, self._jump_s = frame_s, jump_s
        self._last_s: float | None = None  # as it came
        self.due_s = 0.0  # when the last picture ends, as its times came
        self._shift_s, self._time_s = 0.0, 0.0
        self.segment = 0
        self.covered_s = 0.0  # time that has pictures: without the gaps
        self.gap_s = 0.0  # the longest step forward without a picture

    def at(self, time_s: float | None, lasts_s: float | None = None) -> float:
        """The time of the next picture, and `segment` set for it. lasts_s: how long the picture says it is shown."""
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
