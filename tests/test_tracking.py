"""Tracks: one per person, ids without gaps, slow to start and slow to forget."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from numclip.runtime.detect import Detections
from numclip.runtime.tracking import MAX_MISSES, MIN_HITS, Tracker, overlaps


def _seen(*faces: tuple[float, float, float]) -> Detections:
    """Faces of 40 px given as (x, y, score)."""
    boxes = np.array([[x, y, x + 40, y + 40] for x, y, _ in faces], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([s for _, _, s in faces], np.float32), None)


def _ids(tracker: Tracker, *faces: tuple[float, float, float]) -> list[int | None]:
    return [None if t is None else t.track_id for t in tracker.update(_seen(*faces))]


def test_a_track_is_shown_from_its_third_sighting() -> None:
    """Two sightings are not enough; from the third on the id is 1."""
    tracker = Tracker()
    assert [_ids(tracker, (0, 0, 0.9))[0] for _ in range(5)] == [None] * (MIN_HITS - 1) + [1, 1, 1]


def test_a_doubtful_face_starts_nothing_but_keeps_a_track() -> None:
    """Score 0.7 alone never becomes a track; after a sure start it stays one."""
    doubtful = Tracker()
    assert all(_ids(doubtful, (0, 0, 0.7)) == [None] for _ in range(10))
    tracker = Tracker()
    for _ in range(3):
        _ids(tracker, (0, 0, 0.9))
    assert _ids(tracker, (2, 0, 0.65)) == [1]


def test_a_face_that_hides_for_a_moment_keeps_its_id() -> None:
    """Missed for MAX_MISSES frames it is the same person; one more and it is a new one."""
    for missed, expected in ((MAX_MISSES, 1), (MAX_MISSES + 1, 2)):
        tracker = Tracker()
        for _ in range(3):
            _ids(tracker, (0, 0, 0.9))
        for _ in range(missed):
            _ids(tracker)
        later = [_ids(tracker, (0, 0, 0.9)) for _ in range(3)]
        assert later[-1] == [expected]


def test_a_flicker_is_never_shown() -> None:
    """A false alarm every other frame never becomes a track: an unconfirmed track dies at its first miss."""
    tracker = Tracker()
    for i in range(40):
        assert _ids(tracker, *([(0.0, 0.0, 0.95)] if i % 2 else [])) in ([], [None])


@given(st.integers(2, 6), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_people_apart_never_swap(people: int, seed: int) -> None:
    """People 100 px apart who move up to 8 px a frame, in any order of detection, keep their ids for 30 frames."""
    random = np.random.default_rng(seed)
    positions = np.stack([np.arange(people) * 100.0, np.zeros(people)], axis=1)
    tracker, owner = Tracker(), {}
    for _ in range(30):
        positions += random.uniform(-8, 8, positions.shape) / np.sqrt(2)
        positions[:, 0] = positions[:, 0].clip(np.arange(people) * 100 - 25, np.arange(people) * 100 + 25)
        order = random.permutation(people)
        ids = _ids(tracker, *[(float(positions[p][0]), float(positions[p][1]), 0.9) for p in order])
        for person, track in zip(order.tolist(), ids, strict=True):
            if track is not None:
                assert owner.setdefault(person, track) == track
    assert sorted(owner.values()) == list(range(1, people + 1))


def test_overlap_by_hand() -> None:
    """Two 2 x 2 boxes that share one unit square overlap by 1/7; a box of no area overlaps nothing."""
    a = np.array([[0, 0, 2, 2], [5, 5, 5, 5]], np.float32)
    got = overlaps(a, np.array([[1, 1, 3, 3]], np.float32))
    np.testing.assert_allclose(got, [[1 / 7], [0]], atol=1e-6)
