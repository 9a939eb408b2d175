"""Which faces the model looks at in a frame, so that it takes no more time than it may.

Ages change slowly: a face is due SPACING_S after its last look (RESTING_S when it has had SETTLED of them that agree), or when
it is seen better than ever. Those nobody has looked at come first, then those known least and waiting longest. Only new faces get
their look in frames without a detection: where the detector ran, the landmarks are its own. All of this follows the time of the
frames. Each frame of a live source earns model time; a look is bought when there is enough for it. A model slower than the budget
runs all the same, in debt, and then rests until that is paid. Without a bound every look that is due is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SPACING_S, SETTLED, RESTING_S = 0.1, 10, 0.5
BETTER = 1.2  # a view so many times better than the best so far is worth a look at once
GUESS_S = 0.004  # per face, before anything was timed
LEARNING = 0.2  # share of the newest call in the estimate


@dataclass(eq=False)
class Attention:
    """The looks that one track has had."""

    asked: int = 0  # looks that the model was asked for
    asked_s: float = -math.inf  # time of the frame in which it was asked last
    best_view: float = 0.0  # the best view so far
    doubted: bool = False  # the last look said something else than those before it

    def ask(self, view: float, time_s: float) -> None:
        """It gets a look."""
        self.asked, self.asked_s, self.best_view = self.asked + 1, time_s, max(self.best_view, view)

    def unask(self) -> None:
        """The look was not taken: it is due again."""
        self.asked, self.asked_s = self.asked - 1, -math.inf

    def urgency(self, view: float, time_s: float, detected: bool) -> float:
        """How much a look is wanted; 0: not now. detected: whether the detector saw the face in this very frame."""
        if self.asked == 0:
            return 1e9 + view
        if not detected:
            return 0.0
        waited = (time_s - self.asked_s) / (SPACING_S if self.asked < SETTLED or self.doubted else RESTING_S)
        if waited < 0.99 and view < BETTER * self.best_view:
            return 0.0
        return max(waited, 1.0) * (1 + 10 / self.asked) * (0.5 + view)


class LookBudget:
    """Model time that may be spent, and what a look costs. It belongs to the thread that chooses."""

    def __init__(self, budget_s: float) -> None:
        """budget_s: per frame; infinite for no bound."""
        self._budget_s, self._credit_s, self._face_s = budget_s, budget_s, GUESS_S

    def choose(self, wanted: Sequence[Sequence[float]]) -> list[list[int]]:
        """The faces to look at, of the frames that are answered together: for each frame the urgency of its faces.

        Frames (one per source) take turns, each with its most urgent face; so no source starves another.
        """
        queues = [sorted((i for i in range(len(u)) if u[i] > 0), key=lambda i, u=u: -u[i]) for u in wanted]
        if math.isinf(self._budget_s):
            return queues
        self._credit_s = min(self._budget_s, self._credit_s + self._budget_s)
        many = int(self._credit_s / self._face_s)
        if many == 0 and self._credit_s >= self._budget_s:
            many = 1
        turns = [
            (place, -wanted[frame][i], frame, i) for frame, queue in enumerate(queues) for place, i in enumerate(queue)
        ]
        bought = sorted(turns)[: max(0, many)]
        self._credit_s -= len(bought) * self._face_s
        return [[i for *_, of, i in bought if of == frame] for frame in range(len(queues))]

    def expected_s(self, faces: int) -> float:
        """How long a call for so many faces will take."""
        return faces * self._face_s

    def spent(self, faces: int, seconds: float) -> None:
        """A call for so many faces took so long."""
        if faces:
            self._credit_s += faces * self._face_s - seconds
            self._face_s += LEARNING * (seconds / faces - self._face_s)

    def refund(self, faces: int) -> None:
        """So many looks were chosen and never taken."""
        self._credit_s += faces * self._face_s
