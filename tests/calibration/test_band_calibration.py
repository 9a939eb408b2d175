"""Intervals fitted on bands contain whole bands; --every-set covers the worst data set; a left-out set is measured."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from numclip.calibration.conformal import LabelledReadings, fit_table, judged, left_out, source_of
from numclip.calibration.data.crop_cache import FaceCrops
from numclip.calibration.data.datasets import open_data
from numclip.calibration.data.samples import Sample
from numclip.calibration.fitting import _gates, known_labels
from numclip.cli.main import main
from numclip.errors import DataError
from numclip.runtime.contract.conformal_table import ConformalTable
from numclip.runtime.contract.model_file import read_spec, resolve
from numclip.runtime.contract.spec import TaskSpec

TASK = TaskSpec("age", "years", 0, 120, (0.0, 20.0, 40.0, 60.0, 100.0), ("a", "b", "c", "d"))
Floats = np.ndarray


def _read(n: int, seed: int, noise: float = 4.0) -> LabelledReadings:
    """Make predictions of ages 10 to 80 with a given error in years; the words do not depend on it."""
    random = np.random.default_rng(seed)
    truth = np.floor(random.uniform(10, 80, n))
    values = (truth + noise * random.normal(size=n)).clip(0, 120)
    return LabelledReadings.exact(values, np.full((n, 4), 0.25), truth, np.full(n, -1.7))


def _in_bands(faces: LabelledReadings, years: int = 10) -> LabelledReadings:
    low = faces.labels // years * years
    return replace(faces, labels=low, highs=low + years - 1)


def _ends(table: ConformalTable, faces: LabelledReadings, level: float = 0.9) -> Floats:
    return table.interval(*judged(faces, table, TASK), level, TASK)


def test_intervals_contain_bands_whole() -> None:
    """Fitted on 2,000 faces in ten-year bands, 90 % intervals contain 90 % of new bands completely, and more of the exact ages.
    Fitted on exact ages they contain far fewer bands and are narrower. 80 % and 50 % intervals have their coverage too."""
    seen, new = _read(2000, 0), _read(2000, 1)
    table, bands = fit_table(_in_bands(seen), TASK), _in_bands(new)
    for level in (0.5, 0.8, 0.9):
        ends = _ends(table, bands, level)
        share = ((ends[:, 0] <= bands.labels) & (ends[:, 1] >= bands.highs)).mean()
        # each side is covered separately, so both together may be covered more often
        assert level - 0.03 <= share <= level + 0.06, level
    ends, narrow = _ends(table, bands), _ends(fit_table(seen, TASK), new)
    assert ((ends[:, 0] <= new.labels) & (ends[:, 1] >= new.labels)).mean() > 0.95
    assert ((narrow[:, 0] <= bands.labels) & (narrow[:, 1] >= bands.highs)).mean() < 0.6
    assert (narrow[:, 1] - narrow[:, 0]).mean() + 5 < (ends[:, 1] - ends[:, 0]).mean()


def test_gates_count_whole_bands_only() -> None:
    """Calibrated on exact ages and bands together, nobody of a band 10 to 19 counts as within four years below or above 18: nobody
    knows which of them are. Their intervals still use an age drawn from the band."""
    exact = _faces([(float(age), None) for age in (14, 15, 16, 17, 18, 19, 20, 21, 40)])
    data = known_labels([exact, _faces([(10.0, 19.0)] * 100)], ["exact", "bands"])
    assert len(set(data[1].lows.tolist())) == 10
    lows, highs = np.concatenate([part.lows for part in data]), np.concatenate([part.highs for part in data])
    values, words = lows + 0.5, np.full((len(lows), 4), 0.25)
    faces = LabelledReadings(values, words, lows, np.full(len(lows), -1.7), highs, np.zeros((len(lows), 0)))
    table = fit_table(faces, TASK)
    gate = _gates(faces, table, TASK, data)["18"]
    assert (gate.below, gate.above) == (4, 4)


def test_bands_of_no_width_are_exact_labels() -> None:
    """Bands with equal ends give the same table as exact labels, number by number."""
    faces = _read(600, 2)
    assert fit_table(replace(faces, highs=faces.labels.copy()), TASK) == fit_table(faces, TASK)


def test_quantiles_of_every_set() -> None:
    """If the error on one of two data sets is twice as large, intervals fitted on both together undercover it; those fitted per set
    cover it, and are nowhere narrower."""
    sets = [_read(1500, 3, 3.0), _read(500, 4, 6.0)]
    faces = LabelledReadings.join(sets)
    together, each = fit_table(faces, TASK), fit_table(faces, TASK, sources=source_of(sets))
    worse = _read(2000, 5, 6.0)

    def covered(table: ConformalTable) -> float:
        low, high = _ends(table, worse).T
        return float(((low <= worse.labels) & (worse.labels <= high)).mean())

    assert covered(together) < 0.82 and 0.88 <= covered(each) <= 0.95
    assert (np.diff(_ends(each, worse)) >= np.diff(_ends(together, worse)) - 1e-9).all()


def test_a_set_left_out_is_judged_by_the_others() -> None:
    """A data set with twice the error is covered far less than 90 % by intervals fitted on the two others, and each of the others at
    least 90 %; with only one data set there is no such measurement."""
    sets = {"good": _read(600, 6, 3.0), "also": _read(600, 7, 3.0), "bad": _read(600, 8, 6.0)}
    found = left_out(sets, TASK)
    assert found["bad"].coverage < 0.7 and found["good"].coverage > 0.9 and found["also"].coverage > 0.9
    assert found["bad"].width == pytest.approx(found["bad"].width_of_others, rel=0.15)
    every = left_out(sets, TASK, every_set=True)
    assert every["good"].coverage >= found["good"].coverage and every["good"].width > found["good"].width
    assert left_out({"good": sets["good"]}, TASK) == {}


def _faces(ends: list[tuple[float, float | None]]) -> FaceCrops:
    samples = tuple(Sample(f"{i}.png", low, band_high=high) for i, (low, high) in enumerate(ends))
    return FaceCrops(np.zeros((len(ends), 1, 1, 3), np.uint8), samples, (), np.ones(len(ends), np.float32))


def test_what_labels_are_taken_for() -> None:
    """Bands alone are fitted as bands. Mixed with exact labels, a thousand faces of 20-29 count about a hundred times (+-2) as each
    of the ten ages. Open-ended bands are left out of both; a set with only open-ended bands is an error that names it."""
    banded = _faces([(20.0, 29.0), (70.0, math.inf), (0.0, 2.0)])
    (alone,) = known_labels([banded], ["a"])
    assert (alone.lows.tolist(), alone.highs.tolist()) == ([20, 0], [29, 2])
    many = _faces([(20.0, 29.0)] * 1000)
    exact, mixed = known_labels([_faces([(33.0, None)]), many], ["a", "b"])
    assert exact.lows.tolist() == exact.highs.tolist() == [33]
    assert (mixed.lows == mixed.highs).all()
    ages, counts = np.unique(mixed.lows, return_counts=True)
    assert ages.tolist() == list(range(20, 30)) and counts.min() >= 98 and counts.max() <= 102
    with pytest.raises(DataError, match="old: has neither exact labels nor bands with an upper end"):
        known_labels([banded, _faces([(70.0, math.inf)])], ["a", "old"])


def test_the_command_on_bands(shared_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With two tables of 60 faces in bands the file gets intervals, and the coverage of each table when left out is reported.
    --every-set never makes the intervals narrower. Bands of 10 to 19 do not count for a gate at 18, so no gate is fitted."""
    data = open_data(f"fairface:{shared_data / 'data' / 'fairface.tar'}").select("calibration")
    tables: list[str] = []
    for part in range(2):
        rows = ["file,age_low,age_high"]
        for sample in data.samples[part * 60 : part * 60 + 60]:
            (tmp_path / sample.file).write_bytes(data.read_bytes(sample.file))
            low, high = sample.ends
            rows.append(f"{sample.file},{low:g},{high if math.isfinite(high) else ''}")
        (tmp_path / f"{part}.csv").write_text("\n".join(rows) + "\n")
        tables.append(f"table:{tmp_path / f'{part}.csv'}")
    words = ["calibrate", "age-nano", "--data", *tables, "--split", "all", "--out", str(tmp_path / "made.onnx")]
    assert main([*words, "--json", "-"]) == 0
    made = json.loads(capfd.readouterr().out)
    assert set(made["left_out"]) == {"table:0.csv", "table:1.csv"} and made["n"] <= 120
    assert 0.6 < made["left_out"]["table:0.csv"]["coverage"] <= 1
    assert main([*words, "--every-set"]) == 0
    assert "fitted without table:0.csv: 90 % intervals contain" in capfd.readouterr().out
    spec = read_spec(resolve(str(tmp_path / "made.onnx")))
    assert spec.calibration is not None
    wide, usual = (np.asarray(t) for t in (spec.calibration.table.quantiles, made["quantiles"]))
    assert (wide[:, -5] >= usual[:, -5] - 1e-4).all() and (wide[:, 4] <= usual[:, 4] + 1e-4).all()
