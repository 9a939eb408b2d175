"""Degraded pictures match their names and are reproducible."""

from __future__ import annotations

import numpy as np
import pytest

from numclip.calibration.measure.degrade import (
    ALTERED,
    LADDER,
    STRESS,
    compressed,
    dark_glasses,
    fewer_pixels,
    grey,
    lit,
    masked,
    second_look,
    turned,
)

CROP = np.random.default_rng(0).integers(0, 255, (112, 112, 3), np.uint8)


@pytest.mark.parametrize("name", STRESS)
def test_each_is_named_and_deterministic(name: str) -> None:
    """The same crop always gives the same degraded picture; only `as it is` changes nothing."""
    once, twice = STRESS[name](CROP), STRESS[name](CROP.copy())
    assert once.dtype == np.uint8 and once.shape == CROP.shape
    assert np.array_equal(once, twice) and np.array_equal(once, CROP) == (name == "as it is")


def test_by_hand() -> None:
    """1 px gives one colour, grey removes colour, half the light halves the values, and a rotation by 0 changes only rounding."""
    assert len(np.unique(fewer_pixels(CROP, 1).reshape(-1, 3), axis=0)) == 1
    assert (np.ptp(grey(CROP), axis=2) == 0).all()
    assert np.array_equal(lit(CROP, 0.5), CROP // 2) and lit(CROP, 3).max() == 255
    assert np.abs(turned(CROP, 0).astype(int) - CROP).max() <= 3
    assert (
        np.abs(compressed(CROP, 10).astype(int) - CROP).mean() > np.abs(compressed(CROP, 90).astype(int) - CROP).mean()
    )


def test_what_is_covered() -> None:
    """A mask leaves the upper half unchanged, glasses leave the lower half unchanged."""
    assert np.array_equal(masked(CROP)[:56], CROP[:56]) and not np.array_equal(masked(CROP)[60:], CROP[60:])
    assert np.array_equal(dark_glasses(CROP)[56:], CROP[56:]) and not np.array_equal(dark_glasses(CROP)[:56], CROP[:56])


def test_calibration_climbs_other_rungs_than_the_stress_test() -> None:
    """The widenings are fitted at other strengths and in other colours than those they are measured on."""
    fitted = [rung(CROP).tobytes() for rung in (*LADDER, *ALTERED)]
    assert not {worse(CROP).tobytes() for worse in STRESS.values()} & set(fitted)


def test_looks_differ_and_a_seed_repeats_them() -> None:
    """Two simulated looks differ, and the same seed gives the same two."""
    first, again = (
        [second_look(CROP, r) for _ in range(2)] for r in (np.random.default_rng(1), np.random.default_rng(1))
    )
    assert not np.array_equal(first[0], first[1]) and np.array_equal(first, again)
