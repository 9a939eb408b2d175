"""The two generated data sets have correct labels and are the same in every run."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from numclip.calibration.data.datasets import open_data
from numclip.research.studies import made_pictures
from numclip.research.studies.made_pictures import digits, domain_data, draw_objects


@pytest.mark.parametrize("count", [1, 2, 7, 13, 20])
def test_a_drawing_holds_as_many_objects_as_it_says(count: int) -> None:
    """The number of connected areas that differ from the ground equals the label."""
    for seed in range(5):
        image = draw_objects(count, np.random.default_rng(seed)).astype(int)
        differs = (np.abs(image - image[0, 0]).sum(axis=2) > 30).astype(np.uint8)
        areas, _ = cv2.connectedComponents(differs)
        assert areas - 1 == count


def test_the_data_set_is_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generated twice, tables and pictures are the same; every count occurs, and train and val are disjoint."""
    monkeypatch.setattr(made_pictures, "COUNTED", 120)
    made = []
    for folder in ("a", "b"):
        monkeypatch.setenv("NUMCLIP_CACHE", str(tmp_path / folder))
        made.append(open_data(domain_data("count")))
    one, two = made
    assert one.samples == two.samples
    assert all(one.read_bytes(s.file) == two.read_bytes(s.file) for s in one.samples)
    assert {s.label for s in one.samples} == set(range(1, 21))
    assert len(one.select("val").samples) == 30 and len(one.select("train").samples) == 90
    assert domain_data("count").endswith("count.csv"), "it is not generated again"


def test_digits_are_scikit_learns() -> None:
    """There are 1,797 pictures of the ten digits, 174 to 183 of each, scaled to 112 px."""
    pytest.importorskip("sklearn", reason="needs the extra study")
    pictures = list(digits())
    labels = np.array([label for _, label in pictures])

    assert len(pictures) == 1797 and pictures[0][0].shape == (112, 112, 3)
    assert (np.bincount(labels).min(), np.bincount(labels).max()) == (174, 183)
