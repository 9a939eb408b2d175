"""Which faces the model looks at in a frame, so that it takes no more time than it may.

Ages change slowly: a face is due SPACING_S after its last look (RESTING_S when it has had SETTLED of them that agree), or when
it is seen better than ever. Those nobody has looked at come first, then those known least and waiting longest. Only new faces get
their look in frames without a detection: where the detector ran, the landmarks are its own. Each frame earns --budget-ms of model time; a look
is bought when there is enough for it. A model slower than the budget runs all the same, in debt, and then rests until
that is paid.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ..faces.tracking import Track

SPACING_S, SETTLED, RESTING_S = 0.1, 10, 0.5
BETTER = 1.2  # a view so many times better than the best so far is worth a look at once
GUESS_S = 0.004  # per face, before anything was timed
LEARNING = 0.2  # share of the newest call in the estimate


def urgency(track: Track, view: float, time_s: float, detected: bool) -> float:
    """How much a look at a track is wanted; 0: not now. detected: whether the detector saw it in this very frame."""
    if track.asked == 0:
        return 1e9 + view
    if not detected:
        return 0.0
    waited = (time_s - track.asked_s) / (SPACING_S if track.asked < SETTLED or track.doubted else RESTING_S)
    if waited < 0.99 and view < BETTER * track.best_view:
        return 0.0
    return max(waited, 1.0) * (1 + 10 / track.asked) * (0.5 + view)


class LookBudget:
    """Model time that may be spent, and what a look costs."""

    def __init__(self, budget_s: float) -> None:
        """budget_s: per frame; infinite for no bound."""
        self._budget_s, self._credit_s, self._face_s = budget_s, budget_s, GUESS_S
        self._lock = threading.Lock()  # looks are chosen in one thread and timed in another

    def choose(self, wanted: Sequence[Sequence[float]]) -> list[list[int]]:
        """The faces to look at, of the frames that are answered together: for each frame the urgency of its faces.

        Frames (one per source) take turns, each with its most urgent face; so no source starves another.
        """
        queues = [sorted((i for i in range(len(u)) if u[i] > 0), key=lambda i, u=u: -u[i]) for u in wanted]
        with self._lock:
            self._credit_s = min(self._budget_s, self._credit_s + self._budget_s)
            many = int(self._credit_s / self._face_s) if self._credit_s < float("inf") else sum(map(len, queues))
            if many == 0 and self._credit_s >= self._budget_s:
                many = 1
            turns = [
                (place, -wanted[frame][i], frame, i)
                for frame, queue in enumerate(queues)
                for place, i in enumerate(queue)
            ]
            bought = sorted(turns)[: max(0, many)]
            self._credit_s -= len(bought) * self._face_s
        return [[i for *_, of, i in bought if of == frame] for frame in range(len(queues))]

    def expected_s(self, faces: int) -> float:
        """How long a call for so many faces will take."""
        return faces * self._face_s

    def spent(self, faces: int, seconds: float) -> None:
        """A call for so many faces took so long."""
        if not faces:
            return
        with self._lock:
            self._credit_s += faces * self._face_s - seconds
            self._face_s += LEARNING * (seconds / faces - self._face_s)

    def refund(self, faces: int) -> None:
        """So many looks were chosen and never taken."""
        with self._lock:
            self._credit_s += faces * self._face_s
