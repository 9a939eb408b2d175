"""A model file without an embedding: the same ages, two outputs, and nothing to match faces with."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")
onnx = pytest.importorskip("onnx", reason="needs the extra export")
pytest.importorskip("onnxscript", reason="needs the extra export")
import numclip  # noqa: E402
from numclip.calibration.data.crop_cache import face_crops  # noqa: E402
from numclip.calibration.data.datasets import open_data  # noqa: E402
from numclip.calibration.measure.degrade import second_look  # noqa: E402
from numclip.cli.main import main  # noqa: E402
from numclip.runtime.live.running_age import RunningAge  # noqa: E402


@pytest.fixture(scope="module")
def data(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve people of UTKFace's test split with two looks each and their identities."""
    folder, random = tmp_path_factory.mktemp("faces"), np.random.default_rng(0)
    found = open_data(f"utkface:{shared_data / 'data' / 'utkface.tar'}").select("test")
    rows = ["file,label,subject"]
    for i, sample in enumerate(found.samples[::160][:12]):
        for look in range(2):
            cv2.imwrite(str(folder / f"{i}_{look}.png"), second_look(found.read(sample), random))
            rows.append(f"{i}_{look}.png,{sample.label:g},{i}")
    (folder / "mine.csv").write_text("\n".join(rows) + "\n")
    return f"table:{folder / 'mine.csv'}"


@pytest.fixture(scope="module")
def files(repo: Path, data: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """age-nano exported with and without its embedding."""
    folder = tmp_path_factory.mktemp("exported")
    checkpoint = str(repo / "train/checkpoints/age-nano.safetensors")
    whole, bare = folder / "whole.onnx", folder / "bare.onnx"
    assert main(["export", checkpoint, "--out", str(whole), "--data", data]) == 0
    assert main(["export", checkpoint, "--out", str(bare), "--data", data, "--without-embedding"]) == 0
    return whole, bare


def test_the_file_has_two_outputs_and_the_same_ages(files: tuple[Path, Path]) -> None:
    """The graph returns only value and probabilities, bit-identical to the complete file's; a reading's embedding is empty."""
    whole, bare = files
    assert [output.name for output in onnx.load(bare).graph.output] == ["value", "probabilities"]
    models = [numclip.load(file, device="cpu") for file in (whole, bare)]
    side = models[0].spec.crop.side
    crops = np.random.default_rng(0).integers(0, 255, (5, side, side, 3), np.uint8)
    one, two = (model(crops) for model in models)
    assert (one.value == two.value).all() and (one.probabilities == two.probabilities).all()
    assert two.embedding.shape == (5, 0) and two[0].embedding.shape == (0,) and one.embedding.shape[1] > 0
    assert models[1](crops[:0]).embedding.shape == (0, 0)
    assert models[1].spec.parity["fp32"].cosine is None and models[1].spec.parity["fp32"].max is not None


def test_it_runs_and_has_nothing_to_tell_people_apart_by(
    files: tuple[Path, Path], data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """evaluate --identity measures only words and age of this file; for the complete file it measures the embedding too."""
    for file, outputs in zip(files, ({"embedding", "probabilities", "age"}, {"probabilities", "age"}), strict=True):
        assert main(["evaluate", str(file), "--data", data, "--identity", "--json", "-"]) == 0
        found = json.loads(capsys.readouterr().out)["identity"]
        assert {row["output"] for row in found["separations"]} == outputs


def test_another_person_on_a_track_is_noticed_by_the_age_alone(files: tuple[Path, Path], data: str) -> None:
    """Without an embedding, many looks at one person stay one person, and a much older person becomes a second."""
    model = numclip.load(files[1], device="cpu")
    face = np.asarray(face_crops(open_data(data), model.spec.crop).crops[0])
    random = np.random.default_rng(0)
    readings = model(np.stack([second_look(face, random) for _ in range(40)]))
    age = RunningAge(model.spec)
    for i in range(20):
        age.look(readings[i], 1.0, i / 10)
    assert age.people in (0, 1)
    before = age.people
    readings.value[20:] = readings.value[0] + 60 if readings.value[0] < 60 else readings.value[0] - 60
    for i in range(20, 40):
        age.look(readings[i], 1.0, 2 + i / 10)
    assert age.people == before + 1
