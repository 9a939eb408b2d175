"""What is remembered of a source, and what is seen in one of its frames before the model runs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..contract.gate import Answer, Gate, TrackGate
from ..contract.readings import Reading
from ..contract.spec import ModelSpec
from ..faces.detect import Detections
from ..faces.following import Gray, follow, gray_of
from ..faces.quality import sides_px
from ..faces.tracking import Track, Tracker
from .frames import Frame
from .running_age import RunningAge
from .stage_clock import StageClock

DETECT_EVERY_S = 0.1  # the detector runs so often; between, faces are followed
DETECT_EVERY_FRAMES = 6  # and at least so often, whatever times the frames carry
PEOPLE_PER_TRACK = 1_000_000  # at most, so that the gate can tell them by one number


@dataclass(eq=False)
class Person:
    """What is known about the one behind a track; only the model's stage writes it."""

    age: RunningAge
    reason: str | None = None  # why the last look was not believed
    answer: Answer | None = None  # the gate's last


class Memory:
    """One source's tracks and people. A gap (another segment, another frame size) ends all of them."""

    def __init__(self, max_faces: int, gate: Gate | None) -> None:
        self.tracker, self.people, self._max_faces = Tracker(), dict[int, Person](), max_faces
        self._gate = None if gate is None else TrackGate(gate)
        self._gray: Gray | None = None
        self._scene: tuple[int, tuple[int, ...]] | None = None
        self._detected_s, self._followed = 0.0, 0

    @property
    def detected(self) -> bool:
        """Whether the detector ran in the last frame."""
        return self._followed == 0

    def follow(self, frame: Frame, clock: StageClock) -> tuple[Detections, list[Track]] | None:
        """The faces of the next frame that have a track to show, by track, followed from the frame before; None when it is
        the detector's turn."""
        scene = frame.segment, frame.image.shape
        if scene != self._scene:
            self.tracker.forget()
            self._scene, self._gray = scene, None
        gray = gray_of(frame.image)
        followed = None if self._is_due(frame.time_s) else self._followed_to(gray)
        self._gray = gray
        clock.lap("detect")  # what stands in for the detector, or leads to it
        if followed is None:
            return None
        self._followed += 1
        for at, track in enumerate(self.tracker.tracks):
            landmarks = None if followed.landmarks is None else followed.landmarks[at]
            track.move(followed.boxes_xyxy[at], landmarks, frame.time_s)
        return _by_track(followed, list(self.tracker.tracks))

    def take(self, frame: Frame, faces: Detections) -> tuple[Detections, list[Track]]:
        """The detected faces of the next frame that have a track to show, by track."""
        self._detected_s, self._followed = frame.time_s, 0
        faces = largest(faces, self._max_faces)
        return _by_track(faces, self.tracker.update(faces, frame.time_s))

    def _is_due(self, time_s: float) -> bool:
        """Whether this frame needs the detector."""
        waited_s = time_s - self._detected_s
        early = 0 <= waited_s < 0.99 * DETECT_EVERY_S and self._followed < DETECT_EVERY_FRAMES
        return self._gray is None or self.tracker.unsure or not early

    def _followed_to(self, gray: Gray) -> Detections | None:
        """Every track's face in this frame, or None when one is lost."""
        tracks = self.tracker.tracks
        if not tracks or self._gray is None:
            return None if self._gray is None else _none()
        landmarks = [t.landmarks for t in tracks]
        known = [points for points in landmarks if points is not None]
        faces = Detections(
            np.stack([t.box_xyxy for t in tracks]),
            np.array([t.score for t in tracks], np.float32),
            np.stack(known) if len(known) == len(tracks) else None,
        )
        return follow(faces, self._gray, gray)

    def person(self, track: Track, spec: ModelSpec) -> Person:
        """Who is behind a track; those whose track is gone are forgotten."""
        if track.track_id not in self.people:
            alive = {t.track_id for t in self.tracker.tracks}
            for gone in [i for i in self.people if i not in alive]:
                del self.people[gone]
            self.people[track.track_id] = Person(RunningAge(spec))
        return self.people[track.track_id]

    def ask_gate(self, person: Person, track: Track, look: Reading) -> None:
        """Count one look at the gate; another person behind the same track starts from nothing."""
        if self._gate is not None:
            person.answer = self._gate.look(look, track.track_id * PEOPLE_PER_TRACK + person.age.people)


@dataclass(eq=False)
class Sight:
    """One frame with its faces, before the model."""

    frame: Frame
    faces: Detections  # F of them
    tracks: list[Track] | None  # of the faces; None on pictures
    views: npt.NDArray[np.float64]  # [F] how good a look would be
    refused: list[str | None]  # why a face is not looked at
    detected: bool  # whether the detector ran, or its faces were followed
    memory: Memory | None
    clock: StageClock
    asked: list[int] = field(default_factory=lambda: [])  # which faces the model looks at, A of them
    crops: npt.NDArray[np.uint8] | None = None  # [A, S, S, 3] RGB


def largest(faces: Detections, many: int) -> Detections:
    """At most so many faces, the largest first."""
    order = np.argsort(-sides_px(faces), kind="stable")
    return faces.take(order[:many])


def _by_track(faces: Detections, tracks: list[Track | None] | list[Track]) -> tuple[Detections, list[Track]]:
    """Only faces with a track to show, by track."""
    shown = sorted((t.track_id, at, t) for at, t in enumerate(tracks) if t is not None and t.track_id)
    return faces.take(np.array([at for _, at, _ in shown], np.intp)), [track for *_, track in shown]


def _none() -> Detections:
    return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), None)
