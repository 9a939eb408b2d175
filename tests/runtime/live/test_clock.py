"""The clock of a file starts at 0 and never falls; frames that never came are counted by the holes they leave."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numclip.runtime.live.clock import MediaClock, MissingFrames


@given(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1), st.sampled_from([10.0, 3600.0]))
def test_whatever_comes_it_starts_at_0_and_never_falls(times_s: list[float | None], jump_s: float) -> None:
    """Any times at all: the first is 0, none is before the one before it, segments only rise."""
    clock = MediaClock(0.1, jump_s)
    told, segments = [], []
    for time_s in times_s:
        told.append(clock.at(time_s))
        segments.append(clock.segment)
    assert told[0] == 0 and told == sorted(told) and segments == sorted(segments)


@pytest.mark.parametrize(
    "second",
    [0.0, 90_000.0, -95_443.7],
    ids=["the clock starts again", "it goes on a day later", "a 33-bit counter wraps"],
)
def test_a_jump_is_a_new_segment_without_a_gap(second: float) -> None:
    """Two pieces of 3 s at 10 fps whose clocks have nothing to do with each other: 0 to 5.9 s in steps of 0.1, segments 0 and 1."""
    clock = MediaClock(0.1)
    told = [(clock.at(t), clock.segment) for t in [*(50 + np.arange(30) / 10), *(50 + second + np.arange(30) / 10 - 1)]]
    np.testing.assert_allclose([t for t, _ in told], np.arange(60) / 10, atol=1e-6)
    assert [s for _, s in told] == [0] * 30 + [1] * 30 and clock.covered_s == pytest.approx(6)


def test_a_pause_is_kept_where_the_picture_says_how_long_it_lasts() -> None:
    """A slide of 40 s before the next one: its time is kept, and nobody is followed over it."""
    clock = MediaClock(0.1)
    assert (clock.at(0, 40.0), clock.segment) == (0, 0)
    assert (clock.at(40.0, 1.0), clock.segment) == (40.0, 1)


def test_jitter_is_no_jump() -> None:
    """A step back by a few ms is no new segment; the time stands still."""
    clock = MediaClock(0.1)
    assert [clock.at(t) for t in (0.0, 0.1, 0.095, 0.2)] == [0.0, 0.1, 0.1, 0.2] and clock.segment == 0


@given(st.sets(st.integers(20, 180), max_size=30), st.sampled_from([1 / 30, 1 / 25, 0.2]))
def test_missing_frames_are_counted(lost: set[int], frame_s: float) -> None:
    """Of 200 frames some never come, each between two that do: exactly those are counted."""
    lost = {i for i in lost if i - 1 not in lost and i - 2 not in lost and i + 1 not in lost and i + 2 not in lost}
    missing = MissingFrames()
    assert sum(missing.before(i * frame_s) for i in range(200) if i not in lost) == len(lost)


def test_a_camera_that_becomes_slower_loses_nothing() -> None:
    """30 fps, then 15 fps as in the dark: no frame is missing."""
    missing = MissingFrames()
    times_s = [*np.arange(60) / 30, *(2 + np.arange(60) / 15)]
    assert sum(map(missing.before, times_s)) == 0
