"""`numclip calibrate` on the real model and real faces."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import numclip
from numclip.cli import main
from numclip.errors import ModelError
from numclip.runtime import model_file

SHIPPED = model_file.MODELS / "age-nano.onnx"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the shipped model."""
    return Path(shutil.copy(SHIPPED, tmp_path / "m.onnx"))


def test_coverage_on_faces_not_seen(shared_data: Path, yunet_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The shipped intervals of 90 % hold 90 +- 2.5 % of the UTKFace test faces and 90 +- 3.5 % of All-Age-Faces'."""
    for kind, room in (("utkface", 0.025), ("aaf", 0.035)):
        data = f"{kind}:{shared_data / 'data' / f'{kind}.tar'}"
        assert main(["evaluate", "age-nano", "--data", data, "--json", "-"]) == 0
        assert json.loads(capfd.readouterr().out)["coverage"]["0.9"] == pytest.approx(0.9, abs=room)


def test_calibrating_writes_the_spec_only(shared_data: Path, yunet_model: Path, model: Path, capfd) -> None:
    """Calibrating a copy leaves its graph's hash and answers, names data and n, and is repeatable but for the date."""
    before = model_file.graph_sha256(model)
    data = f"aaf:{shared_data / 'data' / 'aaf.tar'}"
    assert main(["calibrate", str(model), "--data", data, "--json", "-"]) == 0
    written = json.loads(capfd.readouterr().out)
    assert written["n"] == 500 and written["data"] == [{"data": "aaf:aaf.tar", "split": "calibration", "n": 500}]
    assert model_file.graph_sha256(model) == before == written["graph_sha256"]
    spec = numclip.load(model).spec
    assert spec.calibration is not None and spec.calibration["coverage"]["0.9"] == pytest.approx(0.9, abs=0.05)


def test_another_graphs_calibration_is_refused(model: Path) -> None:
    """A spec whose calibration names another graph is not opened."""
    spec = model_file.read_spec(model)
    assert spec.calibration is not None
    model_file.write_spec(model, spec.with_calibration({**spec.calibration, "graph_sha256": "0" * 64}))
    with pytest.raises(ModelError, match=r"calibration\.graph_sha256: expected this graph's"):
        numclip.load(model)


def test_without_calibration_nothing_is_promised(model: Path) -> None:
    """An uncalibrated model gives values, and a sentence with the command instead of an interval."""
    import numpy as np

    model_file.write_spec(model, model_file.read_spec(model).with_calibration(None))
    reading = numclip.load(model)(np.zeros((1, 112, 112, 3), np.uint8))[0]
    assert not reading.is_calibrated and 0 <= reading.value <= 120
    for ask in (lambda: reading.interval(0.9), lambda: reading.at_least(18)):
        with pytest.raises(ModelError, match="numclip calibrate"):
            ask()


def test_an_empty_split(shared_data: Path, model: Path, tmp_path: Path, capfd) -> None:
    """A split that is not there is one sentence, and the model file stays as it was."""
    (tmp_path / "t.csv").write_text("file,label,split\na.png,20,train\n")
    before = model.read_bytes()
    assert main(["calibrate", str(model), "--data", f"table:{tmp_path / 't.csv'}"]) == 1
    assert "expected a split 'calibration', it has train" in capfd.readouterr().err and model.read_bytes() == before
