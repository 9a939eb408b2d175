"""Tracks: one per person, ids without gaps, confirmed slowly and ended slowly, through crossings and short absences."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from numclip.runtime.faces.detect import Detections
from numclip.runtime.faces.tracking import MAX_GAP_S, MIN_HITS, Tracker, closeness, overlaps

FPS = 30


def _seen(*faces: tuple[float, float, float]) -> Detections:
    """Make faces of 40 px, given as (x, y, score)."""
    boxes = np.array([[x, y, x + 40, y + 40] for x, y, _ in faces], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([s for _, _, s in faces], np.float32), None)


class Scene:
    """Runs a tracker frame by frame, at 30 frames per second."""

    def __init__(self) -> None:
        self.tracker, self.frame = Tracker(), 0

    def ids(self, *faces: tuple[float, float, float]) -> list[int | None]:
        self.frame += 1
        return [None if t is None else t.track_id for t in self.tracker.update(_seen(*faces), self.frame / FPS)]


def test_a_track_is_shown_from_its_third_sighting() -> None:
    """From its third detection on a track has id 1; until then the tracker needs the detector in every frame."""
    scene = Scene()
    assert [scene.ids((0, 0, 0.9))[0] for _ in range(5)] == [None] * (MIN_HITS - 1) + [1, 1, 1]
    assert not scene.tracker.unsure
    scene.ids((0, 0, 0.9), (100, 0, 0.9))
    assert scene.tracker.unsure


def test_a_doubtful_face_starts_nothing_but_keeps_a_track() -> None:
    """Detections with score 0.7 never start a track but continue one that a higher score started."""
    doubtful = Scene()
    assert all(doubtful.ids((0, 0, 0.7)) == [None] for _ in range(10))
    scene = Scene()
    for _ in range(3):
        scene.ids((0, 0, 0.9))
    assert scene.ids((2, 0, 0.65)) == [1]


def test_a_face_that_hides_for_a_moment_keeps_its_id() -> None:
    """After an absence of 1 s the track continues; after 1.1 s it is a new one."""
    for missed, expected in ((round(MAX_GAP_S * FPS) - 1, 1), (round(MAX_GAP_S * FPS) + 3, 2)):
        scene = Scene()
        for _ in range(3):
            scene.ids((0, 0, 0.9))
        for _ in range(missed):
            scene.ids()
        assert [scene.ids((0, 0, 0.9)) for _ in range(3)][-1] == [expected]


def test_a_flicker_is_never_shown() -> None:
    """A false detection in every other frame never becomes a track, because an unconfirmed track ends at its first miss."""
    scene = Scene()
    for i in range(40):
        assert scene.ids(*([(0.0, 0.0, 0.95)] if i % 2 else [])) in ([], [None])


def test_two_people_who_cross_keep_their_ids() -> None:
    """Two people who cross at 8 px per frame keep their ids, although only one face is detected for five frames."""
    scene, last = Scene(), None
    for i in range(60):
        a, b = (float(8 * i), 100.0, 0.9), (480.0 - 8 * i, 104.0, 0.9)
        last = scene.ids(*([a] if 28 <= i <= 32 else [a, b]))
    assert last == [1, 2]


def test_someone_walking_behind_a_pillar_is_the_same() -> None:
    """A person who walks at 6 px per frame, undetected for 12 frames, keeps the id after more than their own width."""
    scene, shown = Scene(), set()
    for i in range(60):
        shown |= set(scene.ids(*([] if 25 <= i < 37 else [(6.0 * i, 0.0, 0.9)])))
    assert shown == {None, 1}


def test_a_fast_face_is_not_lost() -> None:
    """A face of 40 px that moves by 30 px between detections keeps its id."""
    scene = Scene()
    assert [scene.ids((30.0 * i, 0, 0.9)) for i in range(10)][-1] == [1]


def test_a_gap_ends_all_tracks_and_no_id_comes_twice() -> None:
    """After `forget` the same face in the same place gets a new id."""
    scene = Scene()
    for _ in range(5):
        scene.ids((0, 0, 0.9))
    scene.tracker.forget()
    assert [scene.ids((0, 0, 0.9)) for _ in range(3)][-1] == [2]


def test_memory_is_bounded_over_days() -> None:
    """After 2,000 people have passed one after the other, only a handful of tracks is in memory."""
    scene, most = Scene(), 0
    for person in range(2_000):
        for _ in range(4):
            scene.ids((200.0 * (person % 50), 500.0 * (person % 7), 0.9))
        most = max(most, len(scene.tracker.tracks))
    assert scene.tracker.shown == 2_000 and most < 30


@given(st.integers(2, 6), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_people_apart_never_swap(people: int, seed: int) -> None:
    """People 100 px apart who move up to 8 px per frame keep their ids for 30 frames, in any order of detections."""
    random = np.random.default_rng(seed)
    positions = np.stack([np.arange(people) * 100.0, np.zeros(people)], axis=1)
    scene, owner = Scene(), dict[int, int]()
    for _ in range(30):
        positions += random.uniform(-8, 8, positions.shape) / np.sqrt(2)
        positions[:, 0] = positions[:, 0].clip(np.arange(people) * 100 - 25, np.arange(people) * 100 + 25)
        order = random.permutation(people)
        ids = scene.ids(*[(float(positions[p][0]), float(positions[p][1]), 0.9) for p in order])
        for person, track in zip(order.tolist(), ids, strict=True):
            if track is not None:
                assert owner.setdefault(person, track) == track
    assert sorted(owner.values()) == list(range(1, people + 1))


def test_overlap_and_closeness_by_hand() -> None:
    """Hand-computed: two 2 x 2 boxes that share one unit square have IoU 1/7, a box without area 0; centers half a side apart have
    closeness 1/2; sides of 2 and 4 px are too different."""
    a = np.array([[0, 0, 2, 2], [5, 5, 5, 5]], np.float32)
    np.testing.assert_allclose(overlaps(a, np.array([[1, 1, 3, 3]], np.float32)), [[1 / 7], [0]], atol=1e-6)
    b = np.array([[1, 0, 3, 2], [0, 0, 4, 4], [0, 0, 2, 2]], np.float32)
    np.testing.assert_allclose(closeness(a[:1], b), [[0.5, 0, 1]], atol=1e-6)
