"""The way of a frame: source -> Frame -> faces -> tracks -> crops -> model -> the track's running age -> FrameResult -> sinks.

`Seer` (seeing.py) goes as far as the crops, `Answerer` (answering.py) from there on; each owns what it remembers, and frozen records
pass between them. `Pipeline.read` is both, one after the other; `Conveyor` (conveyor.py) runs the two in threads of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    """What a run asks of its faces."""

    max_faces: int | None = None  # per frame, the largest; None: 32 in video, all in a picture
    min_face_px: int = 24  # longer side of the box; the model does not look at smaller ones
    budget_ms: float | None = None  # model time per frame; None: LIVE_BUDGET_MS for live sources, no bound for files
    gate: Gate | None = None


class Pipeline:
    """Detector and model, joined once and used for every frame of every source."""

    def __init__(
        self,
        model: Model,
        detector: Detector,
        rules: Rules | None = None,
        tracks: bool = True,
        live: bool = False,
    ) -> None:
        """tracks: False for pictures that have nothing to do with each other; then the model looks at every face.
        live: whether frames come in real time, and model time has a bound; of files every look that is due is taken."""
        about_faces = WHOLE not in model.spec.crop.box_rules
        self.model, self.detector = model, detector if about_faces else WholePicture()
        self.rules = rules or Rules()
        budget_ms = self.rules.budget_ms
        if budget_ms is None:
            budget_ms = LIVE_BUDGET_MS if live else math.inf
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
        """Everything about one frame."""
        return self.read_together([frame])[0]

    def read_together(self, frames: Sequence[Frame]) -> list[FrameResult]:
        """Everything about several frames, in one call of the model: pictures, or one frame of each source."""
        results, feedback = self.answerer.answer(self.seer.see(frames))
        self.seer.learn(feedback)
        return results
