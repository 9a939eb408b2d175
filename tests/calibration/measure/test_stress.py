"""The shipped model on pictures much worse than those of its calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import numclip
from numclip.calibration.data.crop_cache import FaceCrops
from numclip.calibration.data.datasets import Sample, open_data
from numclip.calibration.measure.degrade import STRESS
from numclip.calibration.measure.measures import judge
from numclip.calibration.measure.predictor import dataset_faces, predict
from numclip.calibration.measure.stress import stress_rows, track_rows

WORST = ("16 px", "blur 3 %", "blur 5 %")


@pytest.mark.parametrize("kind", ["utkface", "aaf"])
def test_intervals_widen_enough(kind: str, shared_data: Path, yunet_model: Path) -> None:
    """At 16 px and with heavy blur, 90 % intervals still cover 85 % of 400 test faces, and are wider than on sharp faces."""
    model = numclip.load("age-nano", device="cpu")
    faces = dataset_faces(model, open_data(f"{kind}:{shared_data / 'data' / f'{kind}.tar'}").select("test"))
    chosen = np.linspace(0, len(faces.labels) - 1, 400).astype(int)
    sharp = judge(predict(model, faces.crops[chosen]), faces.labels[chosen])
    for name in WORST:
        crops = np.stack([STRESS[name](np.asarray(faces.crops[i])) for i in chosen])
        worse = judge(predict(model, crops), faces.labels[chosen])
        assert worse.covered is not None and worse.width is not None and sharp.width is not None
        assert worse.covered.mean() >= 0.85 and worse.width.mean() > 1.2 * sharp.width.mean(), name


def test_rows_of_a_few_faces() -> None:
    """Every kind of degradation has a row, with children separately; every gate has a row after 3 looks."""
    model = numclip.load("age-nano", device="cpu")
    side = model.spec.crop.side
    crops = np.random.default_rng(0).integers(0, 255, (6, side, side, 3), np.uint8)
    samples = tuple(Sample(f"{label}.png", float(label)) for label in (5, 14, 17, 18, 40, 70))
    faces = FaceCrops(crops, samples, (), np.full(6, 100, np.float32))
    rows = stress_rows(model, faces)
    assert [row.name for row in rows] == list(STRESS)
    assert all(row.figures.n == 6 and row.below is not None and row.below.n == 3 for row in rows)
    (row,) = [row for row in track_rows(model, faces, 3) if (row.threshold, row.error) == (18, 0.1)]
    assert row.looks == 3 and [rate.n for rate in row.rates.by_name().values()] == [2, 1, 2]
