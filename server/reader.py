"""The server's one model, and how it reads clients' pictures."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import NumclipError
from ..runtime.contract.gate import Gate, TrackGate
from ..runtime.faces.detect import KEEP_SCORE
from ..runtime.faces.opening import enlarging, open_detector
from ..runtime.info import ModelInfo, model_info
from ..runtime.live.frames import Frame
from ..runtime.live.pipeline import Pipeline, Rules
from ..runtime.live.results import FrameResult
from ..runtime.sessions.model import load
from .options import ServeOptions
from .pictures import Sent, allow_pixels, decode
from .problems import Problem

SOURCE = "request"  # the source of results of POST /v1/read
NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
log = logging.getLogger(__name__)


class Reader:
    """The model and the face detectors, opened once. Any thread may use them."""

    def __init__(self, options: ServeOptions) -> None:
        """Raises ModelError, DetectorError, DeviceError, UsageError."""
        self._max_pixels = options.max_pixels
        allow_pixels(options.max_pixels)
        self.model = load(options.model, options.device, options.threads, options.precision)
        self._detector = open_detector(
            options.detector, KEEP_SCORE, options.min_face_px, options.device, options.threads
        )  # for live frames; `enlarging` makes one for single pictures from it
        self.infos: list[ModelInfo] = [model_info(self.model.path or options.model)]
        if options.detector not in ("yunet", "haar"):
            self.infos.append(model_info(options.detector))
        calibration = self.model.spec.calibration
        self.level = None if calibration is None else calibration.table.check_level(options.level)
        self.rules = options.rules(self.model.spec)
        self._max_faces = options.max_faces
        # The gate must see a second person, whatever --max-faces is.
        self._still_rules = Rules(None if options.max_faces is None else max(2, options.max_faces), options.min_face_px)
        self._own = threading.local()

    def live_pipeline(self) -> Pipeline:
        """A pipeline for one source or camera, with its own tracks, running ages and time budget."""
        return Pipeline(self.model, self._detector, self.rules, tracks=True, live=True)

    def read_many(self, pictures: Sequence[Sent]) -> list[FrameResult | Exception]:
        """Read pictures in one call of the model. A picture that cannot be read gets a Problem in its place.

        A result has at least two faces if the picture has; `largest` keeps --max-faces of them.
        """
        frames: list[Frame] = []
        answers: list[FrameResult | Exception | None] = []
        for sent in pictures:
            try:
                image = decode(sent, self._max_pixels)
            except Problem as problem:
                answers.append(problem)
            else:
                answers.append(None)
                frames.append(Frame(image, 0, 0.0, sent.arrived_s, SOURCE, sent.name))
        pipeline = getattr(self._own, "pipeline", None)
        if pipeline is None:
            detector = enlarging(self._detector)
            pipeline = self._own.pipeline = Pipeline(self.model, detector, self._still_rules, tracks=False)
        try:
            results = iter(pipeline.read_together(frames) if frames else [])
        except NumclipError as error:
            log.error("reading failed: %s", error)
            raise
        return [_without_pixels(next(results)) if answer is None else answer for answer in answers]

    def largest(self, result: FrameResult) -> FrameResult:
        """The result with at most --max-faces faces, the largest."""
        return replace(result, faces=result.faces[: self._max_faces])

    def gate_answer(self, gate: Gate, result: FrameResult) -> dict[str, object]:
        """yes, no or ask for a picture of one person. With no face or several, ask and the reason."""
        faces = result.faces
        nothing: dict[str, object] = {"answer": "ask", "p": None, "faces": len(faces)}
        if len(faces) != 1:
            return {**nothing, "reason": "no face" if not faces else "several faces"}
        look = faces[0].look
        if look is None:
            return {**nothing, "reason": faces[0].reason}
        said = TrackGate(gate).look(look, None)
        return {"answer": said.answer, "p": said.to_json()["p"], "faces": 1, "reason": None}


def _without_pixels(result: FrameResult) -> FrameResult:
    """The same result without its picture, so that results in memory are small."""
    return replace(result, frame=replace(result.frame, image=NO_PIXELS))
