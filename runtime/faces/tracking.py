"""Who is who from frame to frame: faces that are where a track was heading belong to it.

A person is expected where their last velocity leads. Detections are paired with tracks by falling overlap with that place;
what is left is paired by distance, if the sizes agree, for those who move by more than their own size between two looks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .detect import KEEP_SCORE, Detections

START_SCORE = 0.8  # a new track needs a sure detection; a known one is kept at KEEP_SCORE
MIN_OVERLAP = 0.2  # intersection over union
NEAR, LIKE = 1.0, 0.6  # or: center distance in sides at most, and ratio of sides at least
MIN_HITS = 3  # a track is shown from its third sighting on
MAX_GAP_S, MAX_MISSES = 1.0, 3  # and forgotten when it was not seen for longer, and in more detections
COAST_S = 0.3  # someone who is not seen is taken to slow down within about this time
SMOOTH = 0.5  # of a new velocity in the kept one

Floats = npt.NDArray[np.float32]


@dataclass(eq=False)
class Track:
    """One person as long as they are seen, with little gaps."""

    track_id: int  # 0 until it is shown for the first time
    box_xyxy: Floats  # [4] px, where it was seen last
    landmarks: Floats | None  # [5, 2] px
    score: float
    seen_s: float  # time of the frame it was seen in last
    velocity: Floats = field(default_factory=lambda: np.zeros(2, np.float32))  # px/s of its center
    hits: int = 1  # detections of it
    misses: int = 0  # detections without it since
    asked: int = 0  # looks that the model was asked for
    asked_s: float = -math.inf  # when it was asked last
    best_view: float = 0.0  # the best view so far
    doubted: bool = False  # the last look said something else than those before it

    def expected(self, time_s: float) -> Floats:
        """[4] the box it should have at a time."""
        coast_s = COAST_S * (1 - math.exp(-max(0.0, time_s - self.seen_s) / COAST_S))
        return self.box_xyxy + np.tile(self.velocity * np.float32(coast_s), 2)

    def move(self, box_xyxy: Floats, landmarks: Floats | None, time_s: float) -> None:
        """It is here now."""
        passed_s = time_s - self.seen_s
        if passed_s > 0:
            way = (box_xyxy[:2] + box_xyxy[2:] - self.box_xyxy[:2] - self.box_xyxy[2:]) / 2
            self.velocity = (self.velocity + SMOOTH * (way / passed_s - self.velocity)).astype(np.float32)
        self.box_xyxy, self.landmarks, self.seen_s = box_xyxy, landmarks, time_s


class Tracker:
    """Gives each detection the track it belongs to."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self.shown = 0  # tracks ever shown; ids count from 1 without gaps

    def forget(self) -> None:
        """Drop all tracks: what comes next has nothing to do with what was. No id comes twice."""
        self.tracks = []

    @property
    def unsure(self) -> bool:
        """Whether the next frames must be looked at to know who is there: someone is new, or was not found just now."""
        return any(track.hits < MIN_HITS or track.misses for track in self.tracks)

    def update(self, detections: Detections, time_s: float) -> list[Track | None]:
        """The track of each of the F detections of the frame at `time_s`; None where it belongs to none, or to none shown
        yet. A detection without a partner starts a track if its score is at least START_SCORE."""
        owner: list[Track | None] = [None] * len(detections)
        for at, track in self._pairs(detections, time_s):
            landmarks = None if detections.landmarks is None else detections.landmarks[at]
            track.move(detections.boxes_xyxy[at], landmarks, time_s)
            track.score = float(detections.scores[at])
            track.hits += 1
            track.misses = 0
            owner[at] = track
        seen = {id(track) for track in owner}
        for track in self.tracks:
            track.misses += id(track) not in seen
        self.tracks = [t for t in self.tracks if not self._is_gone(t, time_s)]
        for at in range(len(detections)):
            if owner[at] is None and detections.scores[at] >= START_SCORE:
                landmarks = None if detections.landmarks is None else detections.landmarks[at]
                owner[at] = Track(0, detections.boxes_xyxy[at], landmarks, float(detections.scores[at]), time_s)
                self.tracks.append(owner[at])  # pyright: ignore[reportArgumentType]
        return [self._visible(track) for track in owner]

    @staticmethod
    def _is_gone(track: Track, time_s: float) -> bool:
        if track.hits < MIN_HITS:
            return track.misses > 0
        return track.misses > MAX_MISSES and time_s - track.seen_s > MAX_GAP_S

    def _visible(self, track: Track | None) -> Track | None:
        if track is None or track.hits < MIN_HITS:
            return None
        if track.track_id == 0:
            self.shown += 1
            track.track_id = self.shown
        return track

    def _pairs(self, detections: Detections, time_s: float) -> list[tuple[int, Track]]:
        """(detection, track) pairs, each used once: greatest overlap first, then least distance."""
        kept = [i for i in range(len(detections)) if detections.scores[i] >= KEEP_SCORE]
        if not kept or not self.tracks:
            return []
        boxes, places = detections.boxes_xyxy[kept], np.stack([t.expected(time_s) for t in self.tracks])
        overlap = overlaps(boxes, places)  # [F, T]
        close = np.where(overlap >= MIN_OVERLAP, 1 + overlap, closeness(boxes, places))
        pairs: list[tuple[int, Track]] = []
        while close.max() > 0:
            f, t = np.unravel_index(int(close.argmax()), close.shape)
            pairs.append((kept[int(f)], self.tracks[int(t)]))
            close[f, :] = close[:, t] = -1
        return pairs


def overlaps(a: Floats, b: Floats) -> Floats:
    """[A, B] intersection over union of boxes [A, 4] and [B, 4], xyxy in px."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inside = (bottom_right - top_left).clip(0).prod(axis=2)
    areas_a, areas_b = ((x[:, 2:] - x[:, :2]).clip(0).prod(axis=1) for x in (a, b))
    union = areas_a[:, None] + areas_b[None] - inside
    return np.where(union > 0, inside / np.maximum(union, 1e-9), 0).astype(np.float32)


def closeness(a: Floats, b: Floats) -> Floats:
    """[A, B] from 1 for the same center down to 0 for NEAR sides apart; 0 where the sides differ by more than LIKE."""
    sides_a, sides_b = (np.maximum((x[:, 2:] - x[:, :2]).mean(axis=1), 1e-3) for x in (a, b))
    way = (a[:, None, :2] + a[:, None, 2:] - b[None, :, :2] - b[None, :, 2:]) / 2  # [A, B, 2]
    far = np.hypot(way[..., 0], way[..., 1]) / (NEAR * (sides_a[:, None] + sides_b[None]) / 2)
    ratio = np.minimum(sides_a[:, None], sides_b[None]) / np.maximum(sides_a[:, None], sides_b[None])
    return np.where(ratio >= LIKE, (1 - far).clip(0), 0).astype(np.float32)
