"""Measures for the order of an embedding."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra study")
from numclip.research.studies.ordinality import cosine_distances, falling_share, ordinality


def arc(labels: np.ndarray) -> np.ndarray:
    """Return labels from 0 to 100 on a half circle: the cosine distance grows with the difference of labels."""
    angle = np.pi * labels / 100
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_an_arc_is_perfectly_in_order() -> None:
    """On a half circle in the order of the labels both measures are 1 (up to rounding), whatever the lengths of the vectors."""
    labels = np.linspace(0, 100, 21)
    places = arc(labels) * np.linspace(1, 9, 21)[:, None]

    assert ordinality(labels, places) > 0.99, "rounding breaks ties"
    assert falling_share(places) == 1


def test_chance_is_zero_and_one_half() -> None:
    """For random positions the correlation is 0, and half of the steps lower the similarity."""
    random = np.random.default_rng(0)
    labels, places = random.uniform(0, 100, 400), random.normal(size=(400, 64))

    assert abs(ordinality(labels, places)) < 0.02
    assert falling_share(places) == pytest.approx(0.5, abs=0.02)


def test_a_swapped_pair_by_hand() -> None:
    """Hand-computed: with A, C, B on an arc (the last two swapped), one of two outward steps raises the similarity."""
    a, b, c = arc(np.array([0.0, 40.0, 70.0]))
    assert falling_share(np.stack([a, c, b])) == 0.5
    assert cosine_distances(np.stack([a, a, -a]))[0] == pytest.approx([0, 0, 2])
