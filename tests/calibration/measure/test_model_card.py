"""A model card contains the measured figures and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

import numclip
from numclip.bench.card import same_network
from numclip.calibration.data.datasets import open_data
from numclip.calibration.measure.card import LOOKS, _head, card
from numclip.calibration.measure.degrade import STRESS
from numclip.calibration.measure.predictor import predict_dataset
from numclip.calibration.measure.summary import summarise
from numclip.runtime.contract.model_file import FINDER, resolve, shipped_models
from numclip.runtime.sessions.model import Model


@pytest.fixture
def few(shared_data: Path, tmp_path: Path) -> str:
    """A table of eight All-Age-Faces test pictures."""
    data = open_data(f"aaf:{shared_data / 'data' / 'aaf.tar'}").select("test")
    rows = ["file,label"]
    for sample in data.samples[::100]:
        (tmp_path / Path(sample.file).name).write_bytes(data.read_bytes(sample.file))
        rows.append(f"{Path(sample.file).name},{sample.label:g}")
    (tmp_path / "few.csv").write_text("\n".join(rows) + "\n")
    return f"table:{tmp_path / 'few.csv'}"


def test_the_card_shows_what_evaluate_measures(few: str, yunet_model: Path) -> None:
    """The card shows metrics, degraded pictures, gates after one and many looks, training, limits and licences."""
    model = numclip.load("age-nano", device="cpu")
    page, measured = card(model, [few]), summarise(predict_dataset(model, open_data(few)))
    assert "(8 faces)" in page and f"MAE **{measured.mae:.2f} (" in page and f"{measured.cs5:.1%}" in page
    assert all(f"| {name} | 8 |" in page for name in STRESS)
    assert "| 18 | 10.0% | 1 |" in page and f"| 18 | 10.0% | {LOOKS} |" in page
    for part in ("## Training", "split conformal", "Do not use it to decide", "commercial use: no"):
        assert part in page


def test_pages_are_of_the_files_that_ship() -> None:
    """The model cards and the rows of the benchmark card name the SHA-256 of the file that ships: a changed file needs new pages."""
    docs = Path(numclip.__file__).parent / "docs"
    for name in ("age-nano", "age-small", "age-open"):
        assert f"| file | SHA-256 {_sha256(name)} |" in (docs / f"{name}.md").read_text(), name
    rows = [row for report in json.loads((docs / "bench_card.json").read_text()).values() for row in report["rows"]]
    timed = {(row["model"].partition("@")[0], row["sha256"]) for row in rows if row.get("sha256")}
    ours = {(name, sha256) for name, sha256 in timed if not name.startswith("yunet")}
    assert {name for name, _ in ours} == {*shipped_models(), FINDER} - set(same_network(shipped_models()))
    assert all(sha256 == _sha256(name) for name, sha256 in ours), ours


def _sha256(name: str) -> str:
    return hashlib.sha256(resolve(name).read_bytes()).hexdigest()


def test_an_uncalibrated_model_promises_nothing(few: str, yunet_model: Path) -> None:
    """Without calibration the card has errors but no intervals or gates."""
    model = numclip.load("age-nano", device="cpu")
    page = card(Model(replace(model.spec, calibration=None), model.session), [few])
    assert "Not calibrated, so no intervals." in page and "together" not in page


def test_the_card_names_what_the_file_was_compared_with() -> None:
    """The line on parity names the reference of the stored row: PyTorch for an export, a file where `verify --write` compared files."""
    model = numclip.load("age-nano", device="cpu")
    assert "years from PyTorch on 256 faces" in _head(model)
    row = replace(model.spec.parity["fp32"], against="other.onnx")
    assert "years from other.onnx on 256 faces" in _head(
        Model(replace(model.spec, parity={"fp32": row}), model.session)
    )
