"""A file's clock starts at 0 and never decreases; missing frames are counted by gaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numclip.runtime.live.clock import MediaClock, MissingFrames


@given(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1), st.sampled_from([10.0, 3600.0]))
def test_whatever_comes_it_starts_at_0_and_never_falls(times_s: list[float | None], jump_s: float) -> None:
    """For any input times the first output is 0, times never decrease, and segment numbers only rise."""
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
    """Two pieces of 3 s at 10 fps with unrelated clocks give 0 to 5.9 s in steps of 0.1 and segments 0 and 1."""
    clock = MediaClock(0.1)
    told = [(clock.at(t), clock.segment) for t in [*(50 + np.arange(30) / 10), *(50 + second + np.arange(30) / 10 - 1)]]
    np.testing.assert_allclose([t for t, _ in told], np.arange(60) / 10, atol=1e-6)
    assert [s for _, s in told] == [0] * 30 + [1] * 30 and clock.covered_s == pytest.approx(6)


def test_a_pause_is_kept_where_the_picture_says_how_long_it_lasts() -> None:
    """If the pictures say that a pause lasts 40 s, the pause is kept, and no track continues across it."""
    clock = MediaClock(0.1)
    assert (clock.at(0, 40.0), clock.segment) == (0, 0)
    assert (clock.at(40.0, 1.0), clock.segment) == (40.0, 1)


def test_jitter_is_no_jump() -> None:
    """A step back by a few ms is not a new segment; the time stays the same."""
    clock = MediaClock(0.1)
    assert [clock.at(t) for t in (0.0, 0.1, 0.095, 0.2)] == [0.0, 0.1, 0.1, 0.2] and clock.segment == 0


@given(st.sets(st.integers(20, 180), max_size=30), st.sampled_from([1 / 30, 1 / 25, 0.2]))
def test_missing_frames_are_counted(lost: set[int], frame_s: float) -> None:
    """If some of 200 frames are missing, each between two received ones, exactly those are counted."""
    lost = {i for i in lost if i - 1 not in lost and i - 2 not in lost and i + 1 not in lost and i + 2 not in lost}
    missing = MissingFrames()
    assert sum(missing.before(i * frame_s) for i in range(200) if i not in lost) == len(lost)


def test_a_camera_that_becomes_slower_loses_nothing() -> None:
    """A camera that changes from 30 to 15 fps, as in the dark, loses no frame."""
    missing = MissingFrames()
    times_s = [*np.arange(60) / 30, *(2 + np.arange(60) / 15)]
    assert sum(map(missing.before, times_s)) == 0
