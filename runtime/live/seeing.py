"""The first stage: detect faces, track them, choose those that the model looks at, and crop them.

Tracker, detector and budget belong to this stage and its thread. It sends frozen `Sight` records, and receives only `Feedback`
records from the second stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..contract.spec import CropSpec
from ..faces.crops import crop_faces
from ..faces.detect import Detections, Detector, detect_all
from ..faces.following import Gray, follow, gray_of
from ..faces.quality import judged, sides_px
from ..faces.tracking import MAX_GAP_S, MIN_OVERLAP, START_SCORE, Track, Tracker, overlaps
from .frames import Frame
from .look_budget import Attention, LookBudget
from .sight import Feedback, Sight
from .stage_clock import StageClock

DETECT_EVERY_S = 0.1  # interval of the detector, in the frames' time; in between, faces are followed
DETECT_EVERY_FRAMES = 6  # but at the latest after this many frames
VIDEO_FACES = 32  # per frame, unless a run says otherwise

Floats = npt.NDArray[np.float32]
Hear = Callable[[], Iterable[Feedback]]


class TrackMemory:
    """The tracks of one source, and the looks at each. A gap (another segment, another frame size) ends all of them."""

    def __init__(self, max_faces: int | None) -> None:
        self._tracker, self._max_faces = Tracker(), max_faces or VIDEO_FACES
        self._attention: dict[int, Attention] = {}
        self._gray: Gray | None = None
        self._scene: tuple[int, tuple[int, ...]] | None = None
        self._detected_s, self._followed = 0.0, 0
        self._others: list[tuple[Floats, float]] = []  # boxes [4] that no track took, and when they were seen

    def hide(self, time_s: float) -> Floats:
        """[B, 4] px: where every track is expected, shown or not, and where faces without a track were seen lately."""
        boxes = [*(track.expected(time_s) for track in self._tracker.tracks), *(box for box, _ in self._others)]
        return np.array(boxes, np.float32).reshape(-1, 4)

    @property
    def detected(self) -> bool:
        """Whether the detector ran in the last frame."""
        return self._followed == 0

    @property
    def alive(self) -> frozenset[int]:
        """The tracks that may reappear."""
        return frozenset(track.track_id for track in self._tracker.tracks if track.track_id)

    def attention(self, track_id: int) -> Attention:
        """The looks at one track."""
        if track_id not in self._attention:
            alive = self.alive
            self._attention = {i: known for i, known in self._attention.items() if i in alive}
            self._attention[track_id] = Attention()
        return self._attention[track_id]

    def doubt(self, track_id: int, doubted: bool) -> None:
        """Record whether the last look at a track disagreed with those before it."""
        if track_id in self._attention:
            self._attention[track_id].doubted = doubted

    def unask(self, track_id: int) -> None:
        """Take back the last look at a track, which was not carried out."""
        if track_id in self._attention:
            self._attention[track_id].unask()

    def follow(self, frame: Frame, clock: StageClock) -> tuple[Detections, tuple[int, ...]] | None:
        """Follow the tracks from the previous frame to the next one; returns its faces by track.

        Returns None if this frame needs the detector; then call `take` with its faces.
        """
        scene = frame.segment, frame.image.shape
        if scene != self._scene:
            self._tracker.forget()
            self._scene, self._gray, self._others = scene, None, []
        gray = gray_of(frame.image)
        followed = None if self._is_due(frame.time_s) else self._followed_to(gray)
        self._gray = gray
        clock.lap("detect")  # time of following counts as detection
        if followed is None:
            return None
        self._followed += 1
        for at, track in enumerate(self._tracker.tracks):
            landmarks = None if followed.landmarks is None else followed.landmarks[at]
            track.move(followed.boxes_xyxy[at], landmarks, frame.time_s)
        return _by_track(followed, self._tracker.tracks)

    def take(self, frame: Frame, faces: Detections) -> tuple[Detections, tuple[int, ...]]:
        """Match the detected faces of the next frame to tracks; returns its faces by track."""
        self._detected_s, self._followed = frame.time_s, 0
        chosen, before = largest(faces, self._max_faces), self._tracker.tracks
        shown = _by_track(chosen, self._tracker.update(chosen, frame.time_s))
        taken = {track.box_xyxy.tobytes() for track in self._tracker.tracks}
        lost = [(track.box_xyxy, track.seen_s) for track in before if track not in self._tracker.tracks]
        self._others = [
            (box, seen_s)
            for box, seen_s in (*self._others, *lost)
            if frame.time_s - seen_s <= MAX_GAP_S and overlaps(box[None], faces.boxes_xyxy).max(initial=0) < MIN_OVERLAP
        ] + [(box, frame.time_s) for box in faces.boxes_xyxy if box.tobytes() not in taken]
        return shown

    def _is_due(self, time_s: float) -> bool:
        """Whether this frame needs the detector."""
        waited_s = time_s - self._detected_s
        early = 0 <= waited_s < 0.99 * DETECT_EVERY_S and self._followed < DETECT_EVERY_FRAMES
        return self._gray is None or self._tracker.unsure or not early

    def _followed_to(self, gray: Gray) -> Detections | None:
        """Every track's face in this frame, or None if one was lost."""
        tracks = self._tracker.tracks
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


@dataclass(frozen=True, eq=False)
class _Found:
    """One frame with its faces, before any look is chosen."""

    frame: Frame
    faces: Detections
    track_ids: tuple[int, ...] | None
    views: npt.NDArray[np.float64]
    refused: tuple[str | None, ...]
    memory: TrackMemory | None
    hide_xyxy: npt.NDArray[np.float32]
    clock: StageClock

    def urgencies(self) -> list[float]:
        """The urgency [F] of a look at each face."""
        wanted: list[float] = []
        for i, refused in enumerate(self.refused):
            if refused is not None:
                wanted.append(0.0)
            elif self.memory is None or self.track_ids is None:
                wanted.append(1.0)
            else:
                attention = self.memory.attention(self.track_ids[i])
                wanted.append(attention.urgency(float(self.views[i]), self.frame.time_s, self.memory.detected))
        return wanted

    def ask(self, i: int) -> None:
        """Record that a face gets a look."""
        if self.memory is not None and self.track_ids is not None:
            self.memory.attention(self.track_ids[i]).ask(float(self.views[i]), self.frame.time_s)


class Seer:
    """Finds the faces of every source's frames and chooses the looks at them."""

    def __init__(
        self,
        detector: Detector,
        crop: CropSpec,
        max_faces: int | None,
        min_face_px: float,
        tracks: bool,
        budget_s: float,
    ) -> None:
        """tracks: False for unrelated pictures. budget_s: model time per frame, or infinite."""
        self.detector, self._crop, self._max_faces, self._min_face_px = detector, crop, max_faces, min_face_px
        self._tracks, self._budget = tracks, LookBudget(budget_s if tracks else math.inf)
        self._memories: dict[str, TrackMemory] = {}  # by source

    def see(self, frames: Sequence[Frame], hear: Hear = tuple) -> list[Sight]:
        """Detect, track and crop the faces of frames that are answered together: at most one per source.

        hear: returns the feedback to use before looks are chosen, and waits for it if necessary.
        """
        found = self._find(frames)
        # Without a detection only new faces get a look, for which no feedback is needed.
        if any(each.memory is not None and each.memory.detected for each in found):
            for feedback in hear():
                self.learn(feedback)
        chosen = self._budget.choose([each.urgencies() for each in found])
        return [self._crops(each, tuple(sorted(asked))) for each, asked in zip(found, chosen, strict=True)]

    def learn(self, feedback: Feedback) -> None:
        """Use the feedback of a model call."""
        self._budget.spent(feedback.looks, feedback.seconds)
        for (source, track_id), doubted in feedback.doubted.items():
            self._memories[source].doubt(track_id, doubted)

    def unask(self, sights: Sequence[Sight]) -> None:
        """Drop these sights because newer frames have arrived; the faces that were to be looked at are due again."""
        self._budget.refund(sum(len(sight.asked) for sight in sights))
        for sight in sights:
            if sight.track_ids is not None:
                for i in sight.asked:
                    self._memories[sight.frame.source].unask(sight.track_ids[i])

    def expected_s(self, sights: Sequence[Sight]) -> float:
        """The expected time of the model for these sights, in s."""
        return self._budget.expected_s(sum(len(sight.asked) for sight in sights))

    def _find(self, frames: Sequence[Frame]) -> list[_Found]:
        """Find the faces and tracks of each frame, with one detector call for all frames that need it."""
        clocks = [_clock_of(frame) for frame in frames]
        memories = [self._memory(frame) for frame in frames]
        followed = [
            None if memory is None else memory.follow(frame, clock)
            for frame, memory, clock in zip(frames, memories, clocks, strict=True)
        ]
        due = [i for i, seen in enumerate(followed) if seen is None]
        detected = dict(zip(due, detect_all(self.detector, [frames[i].image for i in due]), strict=True))
        found: list[_Found] = []
        for i, (frame, memory, clock) in enumerate(zip(frames, memories, clocks, strict=True)):
            seen, track_ids = followed[i], None
            if i in detected:
                clock.lap("detect")
            if seen is not None:
                faces, track_ids = seen
            elif memory is not None:
                faces, track_ids = memory.take(frame, detected[i])
            else:
                faces = largest(sure(detected[i]), self._max_faces)
            hide = detected[i].boxes_xyxy if memory is None else memory.hide(frame.time_s)
            views, refused = judged(faces, self._min_face_px)
            found.append(_Found(frame, faces, track_ids, views, tuple(refused), memory, hide, clock))
        return found

    def _memory(self, frame: Frame) -> TrackMemory | None:
        """The state of a frame's source; None for unrelated pictures."""
        if not self._tracks:
            return None
        if frame.source not in self._memories:
            self._memories[frame.source] = TrackMemory(self._max_faces)
        return self._memories[frame.source]

    def _crops(self, found: _Found, asked: tuple[int, ...]) -> Sight:
        """Crop the faces that the model looks at."""
        for i in asked:
            found.ask(i)
        found.clock.lap("track")
        picked = found.faces.take(np.array(asked, np.intp))
        crops = crop_faces(found.frame.image, picked, self._crop, self.detector.name)
        found.clock.lap("crop")
        alive = frozenset[int]() if found.memory is None else found.memory.alive
        return Sight(
            found.frame,
            found.faces,
            found.track_ids,
            alive,
            found.views,
            found.refused,
            asked,
            crops,
            found.clock.laps,
            found.hide_xyxy,
        )


def _clock_of(frame: Frame) -> StageClock:
    """A frame's stage clock, including the time before this stage."""
    clock = StageClock(frame.captured_s)
    if frame.decoding_s is not None:
        clock.lap("waiting", frame.decoding_s[0])
        clock.lap("decode", frame.decoding_s[1])
    clock.lap("waiting")
    return clock


def sure(faces: Detections) -> Detections:
    """The faces that are certain enough to start a track: in a single picture no other frame can confirm a weaker detection."""
    return faces.take(np.flatnonzero(faces.scores >= START_SCORE))


def largest(faces: Detections, many: int | None) -> Detections:
    """At most this many faces (None: all), the largest first."""
    order = np.argsort(-sides_px(faces), kind="stable")
    return faces.take(order[:many])


def _by_track(faces: Detections, tracks: Sequence[Track | None]) -> tuple[Detections, tuple[int, ...]]:
    """Only the faces with a track, by track."""
    shown = sorted((t.track_id, at) for at, t in enumerate(tracks) if t is not None and t.track_id)
    return faces.take(np.array([at for _, at in shown], np.intp)), tuple(track_id for track_id, _ in shown)


def _none() -> Detections:
    return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), None)
