"""The stages of a frame: source -> Frame -> faces -> tracks -> crops -> model -> the track's running age -> FrameResult -> sinks.

`Seer` (seeing.py) covers the stages up to the crops, `Answerer` (answering.py) those from the model on. Each owns its state, and
frozen records pass between them. `Pipeline.read` runs both, one after the other; `Conveyor` (conveyor.py) runs them in threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import UsageError
from ..contract.gate import Gate
from ..faces.detect import WHOLE, Detector, WholePicture
from ..sessions.model import Model
from .answering import Answerer
from .frames import Frame
from .results import FrameResult
from .seeing import Seer

LIVE_BUDGET_MS = 10.0  # model time per frame of a live source, unless a run says otherwise


@dataclass(frozen=True)
class Rules:
    """Which faces are read, the time budget, and the gate."""

    max_faces: int | None = None  # per frame, the largest first; None: 32 in video, no limit in pictures
    min_face_px: int = 24  # longer side of the smallest box that is read, in px
    budget_ms: float | None = None  # model time per frame; None: LIVE_BUDGET_MS for live sources, no limit for files
    gate: Gate | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for a number out of range."""
        for name, value, least in (("max_faces", self.max_faces, 1), ("min_face_px", self.min_face_px, 1)):
            if value is not None and value < least:
                raise UsageError(f"expected {name} of at least {least}, got {value}")
        if self.budget_ms is not None and not self.budget_ms > 0:
            raise UsageError(f"expected budget_ms above 0, got {self.budget_ms:g}")


class Pipeline:
    """A detector and a model, used for every frame of every source."""

    def __init__(
        self,
        model: Model,
        detector: Detector,
        rules: Rules | None = None,
        tracks: bool = True,
        live: bool = False,
    ) -> None:
        """tracks: False for unrelated pictures; then the model looks at every face. live: whether frames arrive in real time, so
        that model time is limited; for files every due look is taken.
        """
        about_faces = WHOLE not in model.spec.crop.box_rules
        self.model, self.detector = model, detector if about_faces else WholePicture()
        self.rules = rules or Rules()
        budget_ms = self.rules.budget_ms
        if budget_ms is None:
            budget_ms = LIVE_BUDGET_MS if live else math.inf
        self.budget_ms = budget_ms  # model time per frame; infinite: no limit
        self.seer = Seer(
            self.detector,
            model.spec.crop,
            self.rules.max_faces,
            self.rules.min_face_px,
            tracks,
            budget_ms / 1000,
        )
        self.answerer = Answerer(model, self.rules.gate)

    def read(self, frame: Frame) -> FrameResult:
        """The result of one frame."""
        return self.read_together([frame])[0]

    def read_together(self, frames: Sequence[Frame]) -> list[FrameResult]:
        """The results of several frames with one model call: pictures, or one frame of each source."""
        results, feedback = self.answerer.answer(self.seer.see(frames))
        self.seer.learn(feedback)
        return results
