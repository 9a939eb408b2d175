"""Metrics for age bands: hand-computed, in the report, in the model card, and for the shipped models."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import numclip
from numclip.calibration import EvaluateOptions, evaluate
from numclip.calibration.data.crop_cache import FaceCrops
from numclip.calibration.data.datasets import open_data
from numclip.calibration.data.samples import Sample
from numclip.calibration.measure.band_measures import BandEvaluation, summarise_bands
from numclip.calibration.measure.card import card
from numclip.calibration.measure.evaluation import metric, metric_of
from numclip.calibration.measure.measures import Rate
from numclip.calibration.measure.predictor import Predictions, predict_dataset
from numclip.cli.main import main
from numclip.errors import DataError
from numclip.runtime.contract.conformal_table import ConformalTable
from numclip.runtime.contract.model_file import read_spec, resolve
from numclip.runtime.contract.readings import Readings

INF = math.inf
SPEC = read_spec(resolve("age-nano"))
BANDS = [(0, 9), (10, 19), (20, 29), (30, INF)]


def _predictions(values: list[float], ends: Sequence[tuple[float, float]], *, calibrated: bool = False) -> Predictions:
    """Make predictions `values`; calibrated: every 90 % interval is +-5 years."""
    spec, n = SPEC.with_calibration(None), len(values)
    if calibrated:
        assert SPEC.calibration is not None
        table = ConformalTable(np.array([0.0]), np.array([0.01, 0.05, 0.95, 0.99]), np.array([[-5.0, -5, 5, 5]]), 1, 0)
        spec = spec.with_calibration(replace(SPEC.calibration, base_table=table))
    samples = [Sample(f"{i}.png", low, groups={"g": "ab"[i % 2]}, band_high=high) for i, (low, high) in enumerate(ends)]
    samples = [s if s.band_high != s.label else replace(s, band_high=None) for s in samples]
    faces = FaceCrops(np.zeros((n, 1, 1, 3), np.uint8), tuple(samples), ("lost.png",), np.ones(n, np.float32))
    words = np.full((n, spec.task.num_bins), 1 / spec.task.num_bins, np.float32)
    return Predictions(Readings(np.array(values, np.float32), words, np.zeros((n, 1), np.float32), spec), faces)


def _share(rate: Rate) -> float:
    """Return the share of a rate, which must have been measured on some faces."""
    assert rate.share is not None
    return rate.share.value


def test_shares_by_hand() -> None:
    """Hand-computed: six faces of 10-19 with predictions 5, 10, 19.9, 24, 31 and 45: two inside, four inside or in the next band,
    one below, three above, mean distance 45.1 / 6 years. The neighbouring bands are those of the data set; the last is open."""
    values = [5, 10, 19.9, 24, 31, 45, 3, 25, 80]
    got = summarise_bands(_predictions([float(v) for v in values], [(10, 19)] * 6 + [BANDS[0], BANDS[2], BANDS[3]]))
    assert [row.name for row in got.bands] == ["0-9", "10-19", "20-29", "30+"]
    teens = got.bands[1].figures
    assert (teens.n, _share(teens.within), _share(teens.near)) == (6, round(2 / 6, 4), round(4 / 6, 4))
    assert (_share(teens.below), _share(teens.above)) == (round(1 / 6, 4), 0.5)
    assert teens.distance.value == pytest.approx((5 + 4 + 11 + 25) / 6, abs=1e-3)
    assert teens.bias.value == pytest.approx((-5 + 4 + 11 + 25) / 6, abs=1e-3)
    assert _share(got.overall.within) == round(5 / 9, 4) and got.skipped == 1
    assert teens.meets is None and teens.width is None
    assert teens.near.share is not None
    low, high = teens.near.share.ends
    assert 0.2 < low < 0.35 and 0.85 < high < 0.97, "the interval of four in six is about +-1/3"


def test_intervals_by_hand() -> None:
    """+-5 years around 24.5 contains the whole band 20 to 29; around 26 it only overlaps it; around 36 and 14.9 it does not."""
    values = [24.5, 26.0, 35.1, 14.9, 24.0]
    got = summarise_bands(_predictions(values, [(20, 29)] * 5, calibrated=True))
    assert got.overall.meets is not None and got.overall.holds is not None and got.overall.width is not None
    assert _share(got.overall.meets) == 0.6 and _share(got.overall.holds) == 0.4
    assert got.overall.width.value == 10 and got.width["0.9"] == 10 and got.holds["0.9"] == 0.4
    json.dumps(got.to_json(), allow_nan=False)
    old = summarise_bands(_predictions([75.0], [(70, INF)], calibrated=True)).overall
    assert old.meets is not None and old.holds is not None
    assert _share(old.meets) == 1 and _share(old.holds) == 0, "no interval contains an open band"


def test_mixed_labels_are_measured_apart() -> None:
    """Exact labels mixed with bands are an error in one sentence."""
    with pytest.raises(DataError, match="expected either exact labels or bands, got both"):
        summarise_bands(_predictions([24.0, 25.0], [(20, 29), (25, 25)]))


def test_a_metric_has_its_bands() -> None:
    """A metric in the spec has rows per band: five fixed bands for exact labels, the labels' own bands otherwise, with distance and
    bias."""
    exact = _predictions([11.0, 10, 48, 70], [(10, 10), (13, 13), (40, 40), (70, 70)])
    line = metric("x", "test", exact.faces, exact.values, SPEC.task)
    assert (line.mae, line.bias, line.cs5, line.n) == (3.0, 1.5, 0.75, 4)
    assert [(b.low, b.high, b.n, b.mae, b.bias) for b in line.bands] == [
        (0, 13, 1, 1, 1), (13, 19, 1, 3, -3), (35, 65, 1, 8, 8), (65, None, 1, 0, 0)
    ]  # fmt: skip
    banded = _predictions([24.0, 32, 25], [(20, 29), (20, 29), (30, INF)])
    line = metric("x", "test", banded.faces, banded.values, SPEC.task)
    assert (line.mae, line.bias) == (round(7 / 3, 4), -1.0)
    assert [(b.low, b.high, b.n, b.mae) for b in line.bands] == [(20, 30, 2, 1), (30, None, 1, 5)]


@pytest.fixture
def few(shared_data: Path, tmp_path: Path) -> str:
    """A table of twelve FairFace test pictures with their bands."""
    data = open_data(f"fairface:{shared_data / 'data' / 'fairface.tar'}").select("test")
    rows = ["file,age_low,age_high,gender"]
    for sample in data.samples[::120]:
        (tmp_path / sample.file).write_bytes(data.read_bytes(sample.file))
        low, high = sample.ends
        rows.append(f"{sample.file},{low:g},{high if math.isfinite(high) else ''},{sample.groups['gender']}")
    (tmp_path / "few.csv").write_text("\n".join(rows) + "\n")
    return f"table:{tmp_path / 'few.csv'}"


def test_command_report_and_card_say_the_same(few: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`evaluate` on bands prints a table and writes a page and JSON; the model card and the spec's metric show the same figures."""
    result = evaluate(EvaluateOptions("age-nano", few, device="cpu"))
    assert isinstance(result, BandEvaluation) and result.overall.near.share is not None
    words = ["evaluate", "age-nano", "--device", "cpu", "--data", few]
    assert main([*words, "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out) == result.to_json()
    assert main([*words, "--report", str(tmp_path / "r")]) == 0
    said = f"{result.overall.near.share.value:.1%}"
    assert said in capfd.readouterr().out and said in (tmp_path / "r" / "report.md").read_text()
    model = numclip.load("age-nano", device="cpu")
    page = card(model, [few])
    assert f"inside it or the next **{said}" in page and "gender female" in page and "together" not in page
    line = metric_of(model, open_data(few))
    assert line.mae == result.overall.distance.value and len(line.bands) == len(result.bands)


def test_stress_needs_exact_labels(few: str, capfd: pytest.CaptureFixture[str]) -> None:
    """--stress on bands is an error in one sentence before anything runs."""
    assert main(["evaluate", "age-nano", "--data", few, "--stress"]) == 2
    assert "--stress, --looks and --identity need exact labels" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["age-nano", "age-small"])
def test_the_base_line_on_fairface(name: str, shared_data: Path) -> None:
    """On FairFace's test split every face counts, in nine bands and seven groups whose numbers add up."""
    data = open_data(f"fairface:{shared_data / 'data' / 'fairface.tar'}").select("test")
    got = summarise_bands(predict_dataset(numclip.load(name, device="cpu"), data))
    assert got.n + got.skipped == 1400 and sum(b.figures.n for b in got.bands) == got.n
    assert len(got.bands) == 9 and sum(f.n for f in got.groups["ethnicity"].values()) == got.n
