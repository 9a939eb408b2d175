"""`numclip verify`: compares files of one model, and its exit code is correct."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra quantize")
from numclip.cli.main import main  # noqa: E402
from numclip.runtime.contract.model_file import MODELS, graph_sha256, read_spec, write_spec  # noqa: E402

SHIPPED = MODELS / "age-nano.onnx"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three labelled, shifted pictures of one well-known face."""
    cv2 = pytest.importorskip("cv2")
    pictures = pytest.importorskip("skimage.data", reason="needs the extra demo")
    import numpy as np

    folder = tmp_path_factory.mktemp("faces")
    rows = ["file,label"]
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), np.roll(pictures.astronaut()[:, :, ::-1], 3 * i, axis=1))
        rows.append(f"{i}.png,40")
    (folder / "faces.csv").write_text("\n".join(rows))
    return f"table:{folder / 'faces.csv'}"


@pytest.fixture
def shifted(tmp_path: Path) -> Path:
    """The shipped model with one year added to each bin value: every predicted age is one year higher."""
    model = onnx.load(SHIPPED)
    (tensor,) = [t for t in model.graph.initializer if t.name.startswith("refinement.values")]
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 1, tensor.name))
    path = tmp_path / "shifted.onnx"
    onnx.save(model, path)
    return path


def test_the_same_file_passes(data: str, yunet_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file compared with itself has no difference, exit code 0."""
    assert main(["verify", str(SHIPPED), str(SHIPPED), "--data", data, "--json", "-"]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert (row["mean"], row["max"], row["mae_change"], row["not_finite"], row["n"]) == (0, 0, 0, 0, 3)


def test_a_year_too_much_fails(data: str, yunet_model: Path, shifted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that predicts one year more differs by 1.0 in mean and max: exit code 1, with file, figure and limit."""
    assert main(["verify", "age-nano", str(SHIPPED), str(shifted), "--data", data, "--json", "-"]) == 1
    out, err = capsys.readouterr()
    right, wrong = json.loads(out)["rows"]
    assert right["missed"] == [] and wrong["mean"] == pytest.approx(1, abs=1e-4) == wrong["max"]
    assert "shifted.onnx exceeds its limits: max 1 years (at most 0.02)" in err and "\n" not in err.strip()


def test_the_row_is_written_and_the_graph_is_not(data: str, yunet_model: Path, tmp_path: Path) -> None:
    """--write adds the row to the file's spec; the graph's hash stays the same; without the flag the file is unchanged."""
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(SHIPPED.read_bytes())
    write_spec(copy, replace(read_spec(copy), parity={}))
    untouched = copy.read_bytes()
    assert main(["verify", "age-nano", str(copy), "--data", data]) == 0 and copy.read_bytes() == untouched
    assert main(["verify", "age-nano", str(copy), "--data", data, "--write"]) == 0
    assert read_spec(copy).parity["fp32"].n == 3 and graph_sha256(copy) == graph_sha256(SHIPPED)


def test_a_file_says_nothing_about_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--write for a file that is compared with itself, and for a shipped file, is an error before anything is written."""
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(SHIPPED.read_bytes())
    before = SHIPPED.read_bytes()
    for models, sentence in (
        ([str(copy)], "expected --write with another file or a checkpoint as the first MODEL"),
        (["age-nano", str(copy), "age-nano"], "its folder contains the models that ship with numclip"),
        ([str(copy), "age-nano"], "its folder contains the models that ship with numclip"),
    ):
        assert main(["verify", *models, "--write"]) == 2
        assert sentence in capsys.readouterr().err
        assert copy.read_bytes() == before == SHIPPED.read_bytes()


def test_another_models_file_is_refused(
    data: str, yunet_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of another task is an error, and so is an engine as the reference."""
    other = tmp_path / "other.onnx"
    other.write_bytes(SHIPPED.read_bytes())
    spec = read_spec(other)
    write_spec(other, replace(spec, task=replace(spec.task, unit="months")))
    (tmp_path / "x.engine").write_bytes(b"x")
    assert main(["verify", "age-nano", str(other), "--data", data]) == 1
    assert main(["verify", str(tmp_path / "x.engine"), "--data", data]) == 2
    said = capsys.readouterr().err
    assert "other.onnx: differs from the reference in task or crop" in said and "put the engine after it" in said


def test_without_faces_smooth_pictures_are_the_proof(capsys: pytest.CaptureFixture[str]) -> None:
    """Without labelled faces, verify uses synthetic smooth pictures, finds no difference for the same file, and names the pictures."""
    assert main(["verify", "age-nano", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["faces"] == "32 smooth pictures, no faces" and report["rows"][0]["max"] == 0
