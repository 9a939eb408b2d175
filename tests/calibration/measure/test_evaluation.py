"""`numclip evaluate` on the shipped model and on tables made by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import numclip
import numclip.calibration
from numclip.calibration import EvaluateOptions, evaluate
from numclip.calibration.data.crop_cache import FaceCrops
from numclip.calibration.data.datasets import Sample, open_data
from numclip.calibration.measure.evaluation import metric_of
from numclip.calibration.measure.predictor import Predictions
from numclip.calibration.measure.summary import summarise
from numclip.cli.main import main
from numclip.runtime.contract.model_file import read_spec, resolve
from numclip.runtime.contract.readings import Readings


def _predictions(values: list[float], labels: list[float], groups: list[str]) -> Predictions:
    spec = read_spec(resolve("age-nano")).with_calibration(None)
    n, bins = len(values), spec.task.num_bins
    samples = tuple(Sample(f"{i}.png", y, groups={"gender": g}) for i, (y, g) in enumerate(zip(labels, groups)))
    faces = FaceCrops(np.zeros((n, 1, 1, 3), np.uint8), samples, ("lost.png",), np.ones(n, np.float32))
    readings = Readings(
        np.array(values, np.float32), np.zeros((n, bins), np.float32), np.zeros((n, 1), np.float32), spec
    )
    return Predictions(readings, faces)


def test_figures_by_hand() -> None:
    """Hand-computed: errors +1, -3, +8, 0 give MAE 3, bias 1.5 and three of four within five years; bands and groups split them."""
    evaluation = summarise(_predictions([11, 10, 48, 70], [10, 13, 40, 70], ["f", "m", "f", "m"]), "x")
    got = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert (got["mae"], got["bias"], got["cs5"], got["n"], got["skipped"]) == (3.0, 1.5, 0.75, 4, 1)
    assert [(b["low"], b["high"], b["n"], b["mae"]) for b in got["bands"]] == [
        (0, 13, 1, 1.0),
        (13, 19, 1, 3.0),
        (35, 65, 1, 8.0),
        (65, None, 1, 0.0),
    ]
    assert got["groups"]["gender"]["f"]["bias"] == 4.5 and got["groups"]["gender"]["m"]["mae"] == 1.5
    assert got["coverage"]["0.9"] is None and got["width"]["0.9"] is None
    assert got["gates"] == [] and got["width_at_equal_coverage"] is None
    assert [(b["low"], b["n"]) for b in got["bands_by_value"]] == [(0, 2), (35, 1), (65, 1)]


@pytest.mark.parametrize(
    ("name", "detector", "limits"),
    [
        ("age-nano", "faces-nano", (4.96, 5.23)),
        pytest.param("age-nano", "yunet", (4.97, 5.15), marks=pytest.mark.slow),
        pytest.param("age-small", "yunet", (4.65, 4.75), marks=pytest.mark.slow),
    ],
)
def test_shipped_model_on_shared_faces(
    name: str,
    detector: str,
    limits: tuple[float, float],
    shared_data: Path,
    yunet_model: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The mean absolute errors on the test splits of UTKFace and All-Age-Faces are as stated, with faces-nano and with YuNet."""
    for kind, n, limit in (("utkface", 2000, limits[0]), ("aaf", 800, limits[1])):
        data = f"{kind}:{shared_data / 'data' / f'{kind}.tar'}"
        words = ["--device", "cpu", "--detector", detector, "--data", data, "--split", "test", "--json", "-"]
        assert main(["evaluate", name, *words]) == 0
        got = json.loads(capfd.readouterr().out)
        assert got["n"] + got["skipped"] == n and got["mae"] <= limit
        assert sum(band["n"] for band in got["bands"]) == got["n"]


def test_labels_outside_the_task(tmp_path: Path, yunet_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A label of 200 years is an error that names the file, before anything runs."""
    (tmp_path / "t.csv").write_text("file,label\na.png,200\n")
    assert main(["evaluate", "age-nano", "--data", f"table:{tmp_path / 't.csv'}"]) == 1
    assert "expected labels from 0 to 120 years, got 200 for a.png" in capfd.readouterr().err


def test_without_yunet(tmp_path: Path, monkeypatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Without YuNet's file, --detector yunet is an error that says how to get it."""
    monkeypatch.delenv("NUMCLIP_YUNET", raising=False)
    monkeypatch.setenv("NUMCLIP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "t.csv").write_text("file,label\na.png,20\n")
    words = ["evaluate", "age-nano", "--data", f"table:{tmp_path / 't.csv'}"]
    assert main([*words, "--detector", "yunet"]) == 1
    assert "numclip fetch yunet" in capfd.readouterr().err


def test_from_python(shared_data: Path, yunet_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`numclip.calibration.evaluate` accepts a name or an open model, prints nothing, and returns what the command writes."""
    data = open_data(f"aaf:{shared_data / 'data' / 'aaf.tar'}").select("test")
    rows = ["file,label"]
    for sample in data.samples[::100]:
        (tmp_path / Path(sample.file).name).write_bytes(data.read_bytes(sample.file))
        rows.append(f"{Path(sample.file).name},{sample.label:g}")
    (tmp_path / "few.csv").write_text("\n".join(rows) + "\n")
    table = f"table:{tmp_path / 'few.csv'}"
    named = evaluate(EvaluateOptions("age-nano", table, device="cpu"))
    opened = evaluate(EvaluateOptions(numclip.load("age-nano", device="cpu"), table))
    assert capfd.readouterr().out == "" and named == opened and (named.n, named.split) == (8, "all")
    assert main(["evaluate", "age-nano", "--device", "cpu", "--data", table, "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out) == named.to_json()


def test_the_room_s_face_is_light() -> None:
    """Importing `numclip.calibration` imports none of its modules (`numclip.lazy` imports them on first use); all its names exist."""
    code = "import sys, numclip.calibration as c; print(sorted(m for m in sys.modules if m.startswith('numclip.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['numclip.calibration', 'numclip.lazy']"
    pytest.importorskip("onnx", reason="needs the extra quantize")
    for name in numclip.calibration.__all__:
        assert getattr(numclip.calibration, name).__name__ == name
    assert dir(numclip.calibration) == sorted(numclip.calibration.__all__)


def test_a_spec_s_metric_leaves_out_training_faces(shared_data: Path, tmp_path: Path) -> None:
    """Data with train and val but no test give a metric on val, data without splits one on all faces."""
    model = numclip.load("age-nano", device="cpu", threads=1)
    dataset = open_data(f"aaf:{shared_data / 'data' / 'aaf.tar'}")
    some = [s for split, step in (("train", 2000), ("val", 100)) for s in dataset.select(split).samples[::step]]
    few = replace(dataset, path=tmp_path, kind="table", samples=tuple(some))
    found = metric_of(model, few)
    assert (found.split, found.n) == ("val", sum(s.split == "val" for s in some)) and 0 < found.n < len(some)
    found = metric_of(model, replace(few, samples=tuple(replace(s, split=None) for s in some)))
    assert (found.split, found.n) == ("all", len(some))


def test_a_spec_s_metric_has_bands(shared_data: Path) -> None:
    """In the metric that export and quantize write, the bands contain all faces, and their weighted errors give the total error."""
    model = numclip.load("age-nano", device="cpu", threads=1)
    dataset = open_data(f"utkface:{shared_data / 'data' / 'utkface.tar'}")
    few = replace(dataset, samples=tuple(s for s in dataset.samples if s.split == "test")[::33])
    metric = metric_of(model, few)
    assert sum(band.n for band in metric.bands) == metric.n > 50 and len(metric.bands) == 5
    weighted = sum(band.n * band.mae for band in metric.bands) / metric.n
    assert weighted == pytest.approx(metric.mae, abs=1e-3)
