"""The way of a frame: source -> Frame -> faces -> tracks -> crops -> model -> the track's running age -> FrameResult -> sinks.

`Pipeline.see` goes as far as the crops, `Pipeline.answer` from there on; `Pipeline.read` is both. `conveyor.py` runs the two in
threads of their own, for live sources and for `numclip run`.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..contract.gate import Gate, TrackGate
from ..contract.model_file import FINDER
from ..contract.readings import Reading
from ..contract.sharpness import sharpness
from ..faces.crops import crop_faces
from ..faces.detect import WHOLE, Detector, WholePicture, detect_all
from ..faces.opening import open_detector
from ..faces.quality import disbelief, judged, quality
from ..faces.tracking import Track
from ..sessions.model import Model, load
from .conveyor import Conveyor
from .frames import Face, Frame, FrameResult
from .look_budget import LookBudget, urgency
from .sight import Memory, Person, Sight, largest
from .sources import open_source, read_picture
from .stage_clock import StageClock

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Rules:
    """What a run asks of its faces."""

    max_faces: int = 32  # per frame, the largest
    min_face_px: int = 24  # longer side of the box; the model does not look at smaller ones
    budget_ms: float = 10.0  # model time per frame; infinite for no bound
    gate: Gate | None = None


class Pipeline:
    """Detector and model, joined once and used for every frame of every source."""

    def __init__(self, model: Model, detector: Detector, rules: Rules | None = None, tracks: bool = True) -> None:
        """tracks: False for pictures that have nothing to do with each other; then the model looks at every face."""
        about_faces = WHOLE not in model.spec.crop.box_rules
        self.model, self.detector = model, detector if about_faces else WholePicture()
        self.rules, self._tracks = rules or Rules(), tracks
        self.budget = LookBudget(self.rules.budget_ms / 1000)
        self._memories: dict[str, Memory] = {}  # by source

    def read(self, frame: Frame) -> FrameResult:
        """Everything about one frame."""
        return self.answer(self.see([frame]))[0]

    def see(self, frames: Sequence[Frame]) -> list[Sight]:
        """Faces, tracks and crops of frames that are answered together: at most one per source."""
        sights = self._sights(frames)
        wanted = [[self._urgency(sight, i) for i in range(len(sight.faces))] for sight in sights]
        chosen = self.budget.choose(wanted) if self._tracks else [_all_wanted(urgencies) for urgencies in wanted]
        for sight, asked in zip(sights, chosen, strict=True):
            sight.asked = sorted(asked)
            for i in asked:
                _note_asked(sight, i)
            sight.clock.lap("track")
            picked = sight.faces.take(np.array(sight.asked, np.intp))
            sight.crops = crop_faces(sight.frame.image, picked, self.model.spec.crop, self.detector.name)
            sight.clock.lap("crop")
        return sights

    def answer(self, sights: Sequence[Sight]) -> list[FrameResult]:
        """One call of the model for all crops of all these frames, and what is known about each face after it."""
        for sight in sights:
            sight.clock.lap("waiting")
        crops = [sight.crops for sight in sights if sight.crops is not None and len(sight.crops)]
        looks: list[tuple[Reading, float]] = []
        if crops:
            together = crops[0] if len(crops) == 1 else np.concatenate(crops)  # [A, S, S, 3]
            started_s = time.perf_counter()
            readings = self.model(together)
            self.budget.spent(len(together), time.perf_counter() - started_s)
            sharp = sharpness(together) if readings.sharpness is None else readings.sharpness
            looks = list(zip(readings, sharp.tolist(), strict=True))
        results: list[FrameResult] = []
        for sight in sights:
            sight.clock.lap("model")
            mine, looks = looks[: len(sight.asked)], looks[len(sight.asked) :]
            faces = self._faces(sight, dict(zip(sight.asked, mine, strict=True)))
            sight.clock.lap("age")
            latency_s = time.monotonic() - sight.frame.captured_s
            results.append(FrameResult(sight.frame, faces, latency_s, 0, self.model.spec.task, sight.clock.times_s))
        return results

    def unask(self, sights: Sequence[Sight]) -> None:
        """These are given up because newer frames are there: what was to be looked at is due again."""
        self.budget.refund(sum(len(sight.asked) for sight in sights))
        for sight in sights:
            for i in sight.asked:
                track = None if sight.tracks is None else sight.tracks[i]
                if track is not None:
                    track.asked, track.asked_s = track.asked - 1, -math.inf

    def _sights(self, frames: Sequence[Frame]) -> list[Sight]:
        """Find the faces of each frame, and their tracks; one call of the detector for all frames that need it."""
        clocks = [_clock_of(frame) for frame in frames]
        memories = [self._memory(frame) for frame in frames]
        followed = [
            None if memory is None else memory.follow(frame, clock)
            for frame, memory, clock in zip(frames, memories, clocks, strict=True)
        ]
        due = [i for i, seen in enumerate(followed) if seen is None]
        found = dict(zip(due, detect_all(self.detector, [frames[i].image for i in due]), strict=True))
        sights: list[Sight] = []
        for i, (frame, memory, clock) in enumerate(zip(frames, memories, clocks, strict=True)):
            seen = followed[i]
            if i in found:
                clock.lap("detect")
            if seen is not None:
                faces, tracks = seen
            elif memory is not None:
                faces, tracks = memory.take(frame, found[i])
            else:
                faces, tracks = largest(found[i], self.rules.max_faces), None
            views, refused = judged(faces, self.rules.min_face_px)
            sights.append(Sight(frame, faces, tracks, views, refused, i in found, memory, clock))
        return sights

    def _memory(self, frame: Frame) -> Memory | None:
        """What is remembered of a frame's source; None for pictures that have nothing to do with each other."""
        if not self._tracks:
            return None
        if frame.source not in self._memories:
            self._memories[frame.source] = Memory(self.rules.max_faces, self.rules.gate)
        return self._memories[frame.source]

    @staticmethod
    def _urgency(sight: Sight, i: int) -> float:
        if sight.refused[i] is not None:
            return 0.0
        if sight.tracks is None:
            return 1.0
        return urgency(sight.tracks[i], float(sight.views[i]), sight.frame.time_s, sight.detected)

    def _faces(self, sight: Sight, looks: dict[int, tuple[Reading, float]]) -> tuple[Face, ...]:
        """Every face with what is shown on it; `looks` holds the new look and its sharpness, by face."""
        faces: list[Face] = []
        for i, box in enumerate(sight.faces.boxes_xyxy.tolist()):
            look, sharp = looks.get(i, (None, 0.0))
            reason = sight.refused[i] if look is None else disbelief(look, sharp)
            believed = look if reason is None else None
            reading, answer, track = believed, None, None if sight.tracks is None else sight.tracks[i]
            if sight.memory is not None and track is not None:
                person = self._person_after(sight, track, believed, float(sight.views[i]), sharp)
                person.reason = reason if look is not None or reason is not None else person.reason
                reading, answer, reason = person.age.shown, person.answer, person.reason
            elif believed is not None and self.rules.gate is not None:
                answer = TrackGate(self.rules.gate).look(believed, None)
            faces.append(
                Face(
                    box_xyxy=tuple(box),
                    score=float(sight.faces.scores[i]),
                    landmarks=None if sight.faces.landmarks is None else sight.faces.landmarks[i],
                    reading=reading,
                    look=believed,
                    track_id=None if track is None else track.track_id,
                    fresh=look is not None,
                    reason=reason if reading is None else None,
                    gate=answer,
                )
            )
        return tuple(faces)

    def _person_after(self, sight: Sight, track: Track, look: Reading | None, view: float, sharp: float) -> Person:
        """The person behind a track, after this look if there was one."""
        assert sight.memory is not None
        person = sight.memory.person(track, self.model.spec)
        if look is not None:
            person.age.look(look, quality(view, sharp), sight.frame.time_s)
            sight.memory.ask_gate(person, track, look)
            track.doubted = person.age.doubted
        return person


def _clock_of(frame: Frame) -> StageClock:
    """The stages' clock of a frame, with what happened to it already."""
    clock = StageClock(frame.captured_s)
    if frame.decoding_s is not None:
        clock.lap("waiting", frame.decoding_s[0])
        clock.lap("decode", frame.decoding_s[1])
    clock.lap("waiting")
    return clock


def _all_wanted(urgencies: list[float]) -> list[int]:
    return [i for i, wanted in enumerate(urgencies) if wanted > 0]


def _note_asked(sight: Sight, i: int) -> None:
    """Remember at the track that it gets a look."""
    if sight.tracks is not None:
        track, view = sight.tracks[i], float(sight.views[i])
        track.asked, track.asked_s, track.best_view = track.asked + 1, sight.frame.time_s, max(track.best_view, view)


def read(
    image: str | os.PathLike[str] | Image, model: Model | None = None, detector: str | Detector = FINDER
) -> FrameResult:
    """Read the faces in one picture: a path (EXIF turned) or [H, W, 3] uint8 BGR; model None is the default one.

    Raises SourceError for a file that is no picture, ValueError for an array of another kind.
    """
    captured_s = time.monotonic()
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"expected a picture uint8 [H, W, 3] BGR, got {image.dtype} {list(image.shape)}")
        frame = Frame(image, 0, 0.0, captured_s, "array")
    else:
        frame = Frame(read_picture(image), 0, 0.0, captured_s, os.fspath(image), Path(image).name)
    rules = Rules()
    return Pipeline(model or _default_model(), _detector(detector, rules), rules, tracks=False).read(frame)


def stream(
    source: str | int | os.PathLike[str],
    model: Model | None = None,
    detector: str | Detector = FINDER,
    rules: Rules | None = None,
) -> Iterator[FrameResult]:
    """Read a camera, video, stream or folder, frame by frame; model None is the default one.

    Of a live source the newest frame is read and older ones are skipped and counted; of files every frame. Raises
    SourceError when the source cannot be opened, and at its end if parts of it could not be read.
    """
    with open_source(os.fspath(source) if not isinstance(source, int) else str(source)) as opened:
        rules = rules or Rules()
        pipeline = Pipeline(model or _default_model(), _detector(detector, rules), rules, tracks=not opened.stills)
        if opened.live:
            with Conveyor([opened], pipeline) as conveyor:
                yield from (item for item in conveyor if isinstance(item, FrameResult))
        else:
            yield from map(pipeline.read, opened)


def _detector(detector: str | Detector, rules: Rules) -> Detector:
    return _opened(detector, rules.min_face_px) if isinstance(detector, str) else detector


@functools.lru_cache(maxsize=4)
def _opened(name: str, min_face_px: int) -> Detector:
    """A detector by name, opened once: threads may share it, OpenCV's apart."""
    return open_detector(name, smallest_face_px=min_face_px)


@functools.cache
def _default_model() -> Model:
    """age-nano, opened once."""
    return load()
