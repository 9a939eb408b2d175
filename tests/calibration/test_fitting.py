"""`numclip calibrate` on the real model and real faces."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import numclip
from numclip.calibration import fitting
from numclip.calibration.data.datasets import open_data
from numclip.calibration.measure.measures import judge, measure, widths_at_equal_coverage
from numclip.calibration.measure.predictor import joined, predict_dataset
from numclip.calibration.measure.summary import AGE_BANDS, summarise
from numclip.cli.main import main
from numclip.errors import ModelError, UsageError
from numclip.runtime.contract import model_file
from numclip.runtime.contract.gate import TrackGate, open_gate

SHIPPED = model_file.MODELS / "age-nano.onnx"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the shipped model."""
    return Path(shutil.copy(SHIPPED, tmp_path / "m.onnx"))


SPLITS = (("utkface", 2000, 0.025), ("aaf", 800, 0.035))


def _data(shared_data: Path, kind: str) -> str:
    return f"{kind}:{shared_data / 'data' / f'{kind}.tar'}"


def test_coverage_on_faces_not_seen(shared_data: Path, yunet_model: Path) -> None:
    """The shipped 90 % intervals cover 90 +- 2.5 % of UTKFace's test faces and 90 +- 3.5 % of All-Age-Faces'.

    This allows one standard error for that many faces. 50, 80 and 95 % intervals have their coverage within three standard errors
    of the test and calibration faces. At 90 % no band of predicted values with 100 faces or more is covered less than 85 %, by the
    same rule. At the same coverage the intervals are narrower than with one global quantile, and at most 2 % wider than intervals
    from the words alone.
    """
    model = numclip.load("age-nano", device="cpu")
    assert model.spec.calibration is not None
    parts = [predict_dataset(model, open_data(_data(shared_data, kind)).select("test")) for kind, _, _ in SPLITS]
    for part, (kind, n, room) in zip(parts, SPLITS):
        got = summarise(part)
        for text, share in got.coverage.items():
            level = float(text)
            error = (level * (1 - level)) ** 0.5
            allowed = (
                room + error / n**0.5 if level == 0.9 else 3 * error * (1 / n + 1 / model.spec.calibration.n) ** 0.5
            )
            assert share is not None and abs(share - level) <= allowed, (kind, level)
        for band in got.bands_by_value:
            coverage = band.figures.coverage
            assert band.figures.few or (coverage and coverage.value >= 0.85 - 0.3 / band.figures.n**0.5), (kind, band)
    readings, labels = joined([p.readings for p in parts]), np.concatenate([p.labels for p in parts])
    judged, value = judge(readings, labels), readings.value
    for low, high in pairwise((*AGE_BANDS, 200)):
        inside = (value >= low) & (value < high)
        assert inside.sum() < 100 or ((c := measure(judged.take(inside)).coverage) and c.value >= 0.85), low
    widths = widths_at_equal_coverage(readings, labels)
    assert widths is not None and widths.ours < widths.one_for_all and widths.ours < 1.02 * widths.words


def test_reading_cost(shared_data: Path, yunet_model: Path) -> None:
    """Interval and gate of 32 faces take less than a tenth of the processor time of the model."""
    model = numclip.load("age-nano", device="cpu", threads=1)
    side = model.spec.crop.side
    crops = np.random.default_rng(0).integers(0, 255, (32, side, side, 3), np.uint8)
    gate = TrackGate(open_gate(model.spec, 18))
    read_s, judged_s = [], []
    for _ in range(7):
        start = time.process_time()
        readings = model(crops)
        middle = time.process_time()
        for at, reading in enumerate(readings):
            reading.interval(0.9)
            gate.look(reading, at)
        read_s.append(middle - start)
        judged_s.append(time.process_time() - middle)
    assert min(judged_s) < 0.1 * min(read_s)


def test_calibrating_writes_the_spec_only(shared_data: Path, yunet_model: Path, model: Path, capfd) -> None:
    """Calibrating a copy keeps the graph's hash, records data and n, and its cross-validated coverage is right to 5 points."""
    before = model_file.graph_sha256(model)
    command = ["calibrate", str(model), "--data", _data(shared_data, "aaf"), "--out", str(model), "--json", "-"]
    assert main(command) == 0
    written = json.loads(capfd.readouterr().out)
    assert written["n"] == 500 and written["data"] == [{"data": "aaf:aaf.tar", "split": "calibration", "n": 500}]
    assert model_file.graph_sha256(model) == before == written["graph_sha256"]
    spec = numclip.load(model).spec
    assert spec.calibration is not None and spec.calibration.coverage["0.9"] == pytest.approx(0.9, abs=0.05)
    assert 0 < spec.calibration.look_correlation <= 1 and spec.calibration.table.widening[0] > 1
    assert spec.calibration.table.unfamiliar_widening[-1] > 1


@pytest.fixture
def site(shared_data: Path, tmp_path: Path) -> Callable[[int], str]:
    """Make a table of All-Age-Faces test pictures as a site would label its own, with ages four years too high."""

    def make(n: int) -> str:
        data = open_data(_data(shared_data, "aaf")).select("test")
        rows = ["file,label"]
        for sample in data.samples[:: len(data.samples) // n][:n]:
            (tmp_path / Path(sample.file).name).write_bytes(data.read_bytes(sample.file))
            rows.append(f"{Path(sample.file).name},{sample.label + 4:g}")
        (tmp_path / f"site{n}.csv").write_text("\n".join(rows) + "\n")
        return f"table:{tmp_path / f'site{n}.csv'}"

    return make


def test_a_layer_comes_and_goes(yunet_model: Path, model: Path, site: Callable[[int], str], capfd) -> None:
    """A layer from 40 faces shifts the predictions and warns of few faces; removing it restores the file byte for byte."""
    before = model.read_bytes()
    side = model_file.read_spec(model).crop.side
    crops = np.random.default_rng(0).integers(0, 255, (3, side, side, 3), np.uint8)
    plain = numclip.load(model)(crops)
    in_place = ["calibrate", str(model), "--out", str(model)]
    layered = [*in_place, "--data", site(40), "--split", "all", "--layer", "door"]
    assert main(layered) == 0
    out, err = capfd.readouterr()
    assert "layer door from 40 faces: offset +" in out
    assert "a layer from 40 faces is imprecise; use 50 to 200" in err
    shifted = numclip.load(model)
    assert shifted.spec.calibration is not None
    (layer,) = shifted.spec.calibration.layers
    assert shifted(crops).value == pytest.approx((plain.value + layer.table.offset).clip(0, 120), abs=1e-3)
    with pytest.raises(UsageError, match="in its layer door"):
        open_gate(shifted.spec, 18)
    assert main(layered) == 2 and main(layered[:-2]) == 2
    assert (
        capfd.readouterr().err.count("already has the layer door; first run numclip calibrate with --remove-layer door")
        == 2
    )
    assert main([*in_place, "--remove-layer", "roof"]) == 2
    assert "this model has no layer roof (its layers: door)" in capfd.readouterr().err
    assert main([*in_place, "--remove-layer", "door"]) == 0
    assert model.read_bytes() == before


@pytest.mark.parametrize("split", ["train", "all"])
def test_training_faces_are_refused(split: str, shared_data: Path, model: Path, capfd) -> None:
    """Calibrating on faces that trained the model, or on all faces of such a data set, is an error that names the splits to use. A model
    without a training record takes them."""
    before, spec, data = model.read_bytes(), model_file.read_spec(model), _data(shared_data, "utkface")
    assert main(["calibrate", str(model), "--data", data, "--split", split, "--out", str(model)]) == 1
    assert (
        f"got --split {split} of utkface:utkface.tar, which did; use --split calibration, val" in capfd.readouterr().err
    )
    assert model.read_bytes() == before
    unknown = replace(spec, provenance=replace(spec.provenance, training={}))
    assert fitting._chosen(unknown, data, split).samples  # calibrating on 16,901 faces takes minutes


def test_another_graphs_calibration_is_refused(model: Path) -> None:
    """A spec whose calibration names another graph is an error."""
    spec = model_file.read_spec(model)
    assert spec.calibration is not None
    model_file.write_spec(model, spec.with_calibration(replace(spec.calibration, graph_sha256="0" * 64)))
    with pytest.raises(ModelError, match=r"calibration\.graph_sha256: the calibration belongs to another graph"):
        numclip.load(model)


def test_without_calibration_nothing_is_promised(model: Path) -> None:
    """An uncalibrated model gives values; asking for an interval is an error with the command to run."""
    spec = model_file.read_spec(model)
    model_file.write_spec(model, spec.with_calibration(None))
    reading = numclip.load(model)(np.zeros((1, spec.crop.side, spec.crop.side, 3), np.uint8))[0]
    assert not reading.is_calibrated and 0 <= reading.value <= 120
    for ask in (lambda: reading.interval(0.9), lambda: reading.at_least(18)):
        with pytest.raises(ModelError, match="numclip calibrate"):
            ask()


def test_a_wrong_calibration_can_be_replaced(yunet_model: Path, model: Path, site: Callable[[int], str], capfd) -> None:
    """A calibration of another graph is an error for a site layer; a new calibration replaces it."""
    spec = model_file.read_spec(model)
    assert spec.calibration is not None
    model_file.write_spec(model, spec.with_calibration(replace(spec.calibration, graph_sha256="0" * 64)))
    again = ["calibrate", str(model), "--data", site(60), "--split", "all", "--out", str(model)]
    assert main([*again, "--layer", "door"]) == 1
    assert "calibration.graph_sha256: the calibration belongs to another graph" in capfd.readouterr().err
    assert main(again) == 0 and numclip.load(model).spec.calibration.n == 60  # type: ignore[union-attr]


def test_bad_input(yunet_model: Path, model: Path, site: Callable[[int], str], tmp_path: Path, capfd) -> None:
    """Each bad input is an error in one sentence, and the model file stays unchanged."""
    (tmp_path / "t.csv").write_text("file,label,split\na.png,20,train\n")
    (tmp_path / "old.csv").write_text("file,label\na.png,200\n")
    before = model.read_bytes()
    table = f"table:{tmp_path / 't.csv'}"
    for flags, code, sentence in (
        (["--data", table], 1, "has no split 'calibration', only train"),
        (
            ["--data", f"table:{tmp_path / 'old.csv'}", "--split", "all"],
            1,
            "expected labels from 0 to 120 years, got 200",
        ),
        (["--data", site(29), "--split", "all"], 1, "expected at least 30 labelled faces to calibrate, got 29"),
        (["--data", site(29), "--split", "all", "--layer", "door"], 1, "expected at least 30 labelled faces"),
        ([], 2, "expected either --data with labelled faces, or --remove-layer NAME"),
        (
            ["--data", table, "--remove-layer", "door"],
            2,
            "expected either --data with labelled faces, or --remove-layer NAME",
        ),
        (["--remove-layer", "door"], 2, "this model has no layer door (its layers: none)"),
    ):
        assert main(["calibrate", str(model), "--out", str(model), *flags]) == code
        err = capfd.readouterr().err
        assert sentence in err and "Traceback" not in err and model.read_bytes() == before


def test_a_model_without_bins(model: Path, capfd) -> None:
    """A spec without words is an error that names the field; a site layer on an uncalibrated model is an error."""
    spec = model_file.read_spec(model)
    model_file.write_spec(model, spec.with_calibration(None))
    flags = ["calibrate", str(model), "--data", "table:none.csv"]
    assert main([*flags, "--layer", "door"]) == 1 and "a layer needs a calibrated model" in capfd.readouterr().err
    model_file.write_spec(model, replace(spec, task=replace(spec.task, words=(), bin_edges=(0.0,))))
    assert main(flags) == 1 and "spec field task.words: expected at least 2 words, got 0" in capfd.readouterr().err


def test_a_new_file_is_written(
    yunet_model: Path, site: Callable[[int], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    """Without --out, a model name gives ./NAME.calibrated.onnx; the shipped file is unchanged; writing into the package is an error."""
    monkeypatch.chdir(tmp_path)
    before, data = SHIPPED.read_bytes(), site(60)
    assert main(["calibrate", "age-nano", "--data", data, "--split", "all"]) == 0
    assert "age-nano.calibrated.onnx: calibrated on 60 faces" in capfd.readouterr().out
    written = tmp_path / "age-nano.calibrated.onnx"
    calibration = model_file.read_spec(written).calibration
    assert calibration is not None and calibration.n == 60
    assert main(["calibrate", str(written), "--data", data, "--split", "all", "--layer", "door"]) == 0
    calibration = model_file.read_spec(written).calibration  # its own name again, not .calibrated.calibrated
    assert calibration is not None and [layer.name for layer in calibration.layers] == ["door"]
    assert main(["calibrate", "age-nano", "--data", data, "--split", "all", "--out", str(SHIPPED)]) == 2
    assert (
        "its folder contains the models that ship with numclip; write to a file in another folder"
        in capfd.readouterr().err
    )
    assert SHIPPED.read_bytes() == before
