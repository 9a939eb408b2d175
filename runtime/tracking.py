"""Who is who from frame to frame: boxes that overlap belong to one track."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .detect import KEEP_SCORE, Detections

START_SCORE = 0.8  # a new track needs a sure detection; a known one is kept at KEEP_SCORE
MIN_OVERLAP = 0.2  # intersection over union
MIN_HITS = 3  # a track is shown from its third sighting on
MAX_MISSES = 15  # and forgotten after so many frames without one

Floats = npt.NDArray[np.float32]


@dataclass
class Track:
    """One person as long as the detector keeps seeing them."""

    track_id: int  # 0 until it is shown for the first time
    box_xyxy: Floats  # [4] px, where it was seen last
    hits: int = 1
    misses: int = 0


class Tracker:
    """Gives each detection the track it belongs to."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self.shown = 0  # tracks ever shown; ids count from 1 without gaps

    def update(self, detections: Detections) -> list[Track | None]:
        """The track of each of the F detections of the next frame; None where it belongs to none, or to none shown yet.

        Pairs are made by falling overlap with where each track was last seen. A detection without a partner starts a
        track if its score is at least START_SCORE.
        """
        owner: list[Track | None] = [None] * len(detections)
        for at, track in self._pairs(detections):
            track.box_xyxy = detections.boxes_xyxy[at]
            track.hits += 1
            track.misses = 0
            owner[at] = track
        seen = {id(track) for track in owner if track is not None}
        for track in self.tracks:
            track.misses += id(track) not in seen
        self.tracks = [t for t in self.tracks if t.misses <= (MAX_MISSES if t.hits >= MIN_HITS else 0)]
        for at in range(len(detections)):
            if owner[at] is None and detections.scores[at] >= START_SCORE:
                owner[at] = Track(0, detections.boxes_xyxy[at])
                self.tracks.append(owner[at])  # pyright: ignore[reportArgumentType]
        return [self._visible(track) for track in owner]

    def _visible(self, track: Track | None) -> Track | None:
        if track is None or track.hits < MIN_HITS:
            return None
        if track.track_id == 0:
            self.shown += 1
            track.track_id = self.shown
        return track

    def _pairs(self, detections: Detections) -> list[tuple[int, Track]]:
        """(detection, track) pairs, greatest overlap first, each used once."""
        kept = [i for i in range(len(detections)) if detections.scores[i] >= KEEP_SCORE]
        if not kept or not self.tracks:
            return []
        overlap = overlaps(detections.boxes_xyxy[kept], np.stack([t.box_xyxy for t in self.tracks]))  # [F, T]
        pairs: list[tuple[int, Track]] = []
        while overlap.max() >= MIN_OVERLAP:
            f, t = np.unravel_index(int(overlap.argmax()), overlap.shape)
            pairs.append((kept[int(f)], self.tracks[int(t)]))
            overlap[f, :] = overlap[:, t] = -1
        return pairs


def overlaps(a: Floats, b: Floats) -> Floats:
    """[A, B] intersection over union of boxes [A, 4] and [B, 4], xyxy in px."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inside = (bottom_right - top_left).clip(0).prod(axis=2)
    areas_a, areas_b = ((x[:, 2:] - x[:, :2]).clip(0).prod(axis=1) for x in (a, b))
    union = areas_a[:, None] + areas_b[None] - inside
    return np.where(union > 0, inside / np.maximum(union, 1e-9), 0).astype(np.float32)
