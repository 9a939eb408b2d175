"""Capture to result, stage by stage: decode, detect, model, and the rest (crops, tracks, JSON), for a number of faces."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from .bench_statistics import summary
from .detect import Detections, Detector
from .frames import Frame
from .model import Model
from .pipeline import Pipeline
from .readings import Readings
from .sources import open_source

FACE_COUNTS = (0, 1, 2, 4, 8, 16)
WARM_UP_FRAMES = 10
STAGES = ("decode", "detect", "model", "rest", "total")


@dataclass(eq=False)
class StageTimes:
    """Milliseconds by stage, one number per frame."""

    ms: dict[str, list[float]] = field(default_factory=lambda: {stage: list[float]() for stage in STAGES})
    frame: dict[str, float] = field(default_factory=lambda: dict[str, float]())

    def end_of_frame(self) -> None:
        """Close one frame: what no stage claimed is the rest."""
        self.frame["rest"] = self.frame["total"] - sum(self.frame.get(s, 0.0) for s in ("decode", "detect", "model"))
        for stage in STAGES:
            self.ms[stage].append(self.frame.get(stage, 0.0))
        self.frame.clear()


class TimedDetector:
    """A detector that is timed, and whose answer is then replaced by `count` faces: the largest one seen, repeated."""

    def __init__(self, detector: Detector, count: int, times: StageTimes) -> None:
        self.name, self._detector, self._count, self._times = detector.name, detector, count, times
        self._face: Detections | None = None

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """The real detection's cost, with the asked number of faces."""
        start = time.perf_counter()
        found = self._detector.detect(image)
        self._times.frame["detect"] = 1000 * (time.perf_counter() - start)
        if len(found):
            self._face = found.largest()
        if self._face is None or self._count == 0:
            return found.take(np.array([], np.intp))
        return self._face.take(np.zeros(self._count, np.intp))


class TimedModel:
    """A model that is timed."""

    def __init__(self, model: Model, times: StageTimes) -> None:
        self.spec, self._model, self._times = model.spec, model, times

    def __call__(self, crops: npt.NDArray[np.uint8]) -> Readings:
        start = time.perf_counter()
        readings = self._model(crops)
        self._times.frame["model"] = 1000 * (time.perf_counter() - start)
        return readings


def bench_pipeline(model: Model, detector: Detector, clip: str, max_frames: int) -> list[dict[str, Any]]:
    """One row per number of faces: percentiles of each stage in ms over the clip's frames (the first ten warm up).

    Raises SourceError where the clip is too short or shows no face.
    """
    rows: list[dict[str, Any]] = []
    for count in FACE_COUNTS:
        times = StageTimes()
        timed: Any = TimedModel(model, times)
        pipeline = Pipeline(
            timed, TimedDetector(detector, count, times), tracker=None, max_faces=count or 1, min_face_px=1
        )
        seen = 0
        for frame, decode_ms in _decoded(clip, max_frames + WARM_UP_FRAMES):
            start = time.perf_counter()
            result = pipeline.read(frame)
            json.dumps(result.to_json())
            seen = max(seen, len(result.faces))
            times.frame["decode"] = decode_ms
            times.frame["total"] = decode_ms + 1000 * (time.perf_counter() - start)
            times.end_of_frame()
        kept = {stage: ms[WARM_UP_FRAMES:] for stage, ms in times.ms.items()}
        if not kept["total"]:
            raise SourceError(f"{clip}: expected more than {WARM_UP_FRAMES} frames, got fewer; give a longer clip")
        if seen < count:
            raise SourceError(f"{clip}: expected a clip with a face, {detector.name} found none; give another")
        rows.append({"faces": count, "stages": {stage: summary(ms) for stage, ms in kept.items()}})
    return rows


def _decoded(clip: str, limit: int) -> Iterator[tuple[Frame, float]]:
    """Frames, each with the milliseconds it took to come."""
    with open_source(clip) as source:
        frames = iter(source)
        for _ in range(limit):
            start = time.perf_counter()
            frame = next(frames, None)
            if frame is None:
                return
            yield frame, 1000 * (time.perf_counter() - start)
