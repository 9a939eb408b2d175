"""Chooses the faces that the model looks at in each frame, within the time budget. A look is one model call on one face.

Ages change slowly, so a face is due again SPACING_S after its last look (RESTING_S after SETTLED looks that agree), or when it
is seen better than before. Faces without a look come first, then those with few looks or a long wait. In frames without a
detection only new faces get a look: where the detector ran, the landmarks are more precise. All times are the frames' times.
Each frame of a live source adds model time to the budget, and a look is taken when there is enough. A model slower than the
budget still runs: it takes its time on credit, and then pauses until the budget is positive. Without a budget every due look
is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SPACING_S, SETTLED, RESTING_S = 0.1, 10, 0.5
BETTER = 1.2  # a view this many times better than the best so far is due at once
GUESS_S = 0.004  # per face, before the first measurement
LEARNING = 0.2  # weight of the newest call in the estimate


@dataclass(eq=False)
class Attention:
    """The looks at one track so far."""

    asked: int = 0  # number of requested looks
    asked_s: float = -math.inf  # time of the frame of the last requested look
    best_view: float = 0.0  # the best view so far
    doubted: bool = False  # the last look disagreed with those before it

    def ask(self, view: float, time_s: float) -> None:
        """Count a requested look."""
        self.asked, self.asked_s, self.best_view = self.asked + 1, time_s, max(self.best_view, view)

    def unask(self) -> None:
        """Take back a look that was not carried out: the face is due again."""
        self.asked, self.asked_s = self.asked - 1, -math.inf

    def urgency(self, view: float, time_s: float, detected: bool) -> float:
        """The urgency of a look; 0: not now. detected: whether the detector found the face in this frame."""
        if self.asked == 0:
            return 1e9 + view
        if not detected:
            return 0.0
        waited = (time_s - self.asked_s) / (SPACING_S if self.asked < SETTLED or self.doubted else RESTING_S)
        if waited < 0.99 and view < BETTER * self.best_view:
            return 0.0
        return max(waited, 1.0) * (1 + 10 / self.asked) * (0.5 + view)


class LookBudget:
    """The budget of model time, and the estimated cost of a look. It belongs to the thread that chooses."""

    def __init__(self, budget_s: float) -> None:
        """budget_s: model time per frame; infinite for no limit."""
        self._budget_s, self._credit_s, self._face_s = budget_s, budget_s, GUESS_S

    def choose(self, wanted: Sequence[Sequence[float]]) -> list[list[int]]:
        """Choose the faces to look at, from the urgency of each face in frames that are answered together.

        Frames (one per source) take turns, each with its most urgent face, so that no source starves another.
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
        """The expected time of a call with this many faces, in s."""
        return faces * self._face_s

    def spent(self, faces: int, seconds: float) -> None:
        """Record how long a call with this many faces took."""
        if faces:
            self._credit_s += faces * self._face_s - seconds
            self._face_s += LEARNING * (seconds / faces - self._face_s)

    def refund(self, faces: int) -> None:
        """Return the cost of this many looks that were chosen but not taken."""
        self._credit_s += faces * self._face_s
