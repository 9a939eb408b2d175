"""Model objects: the file for a name and a precision, closing, pickling."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import numclip
from numclip.errors import ModelError
from numclip.runtime.contract.model_file import MODELS, read_spec, write_spec
from numclip.runtime.sessions.choice import probe_crops
from numclip.runtime.sessions.model import Model

SHIPPED = MODELS / "age-nano.onnx"
CROPS = probe_crops(read_spec(SHIPPED).crop.side, 3)


@pytest.mark.parametrize(
    ("name", "precision", "file"),
    [
        ("age-nano", None, "age-nano.onnx"),
        ("age-nano", "fp32", "age-nano.onnx"),
        ("age-nano", "int8", "age-nano.int8.onnx"),
        ("age-nano.int8", None, "age-nano.int8.onnx"),
        ("age-nano.int8", "int8", "age-nano.int8.onnx"),
        ("age-nano.int8", "fp32", "age-nano.onnx"),
    ],
)
def test_a_name_and_a_precision_mean_one_file(name: str, precision: str | None, file: str) -> None:
    """The model runs the named file, or its version in the requested precision."""
    model = numclip.load(name, "cpu", 1, precision)
    assert model.path == MODELS / file and model.spec.graph.precision == ("int8" if "int8" in file else "fp32")


def test_a_form_that_is_not_there(tmp_path: Path) -> None:
    """A missing version, a file with another precision than its name, and an unknown precision are errors in one sentence."""
    with pytest.raises(
        ModelError, match=r"expected its fp16 version age-nano\.fp16\.onnx in the same folder.*--precision fp16"
    ):
        numclip.load("age-nano", precision="fp16")
    with pytest.raises(ModelError, match="expected a precision among fp32, fp16, int8, got 'half'"):
        numclip.load("age-nano", precision="half")
    for name in ("age.onnx", "age.int8.onnx"):
        (tmp_path / name).write_bytes(SHIPPED.read_bytes())
    with pytest.raises(
        ModelError,
        match=r"age\.int8\.onnx: expected a file that computes in int8, but it computes in fp32; make it again",
    ):
        numclip.load(tmp_path / "age.onnx", precision="int8")


def test_what_is_printed() -> None:
    """A model and its readings print as one short line without arrays and object addresses."""
    with numclip.load("age-nano", "cpu", 1) as model:
        readings = model(CROPS)
        assert repr(model) == "Model(age-nano: age in years, fp32, cpu)"
        assert repr(readings) == f"Readings(3: age {', '.join(f'{v:.1f}' for v in readings.value)} years)"
        assert repr(model(np.repeat(CROPS, 5, 0))).endswith(", … years)") and repr(model(CROPS[:0])) == "Readings(0)"
    assert repr(model) == "Model(age-nano: age in years, fp32, closed)"


def test_a_closed_model_says_so() -> None:
    """`with` closes a model; closing again does nothing; a later call is an error in one sentence."""
    with numclip.load("age-nano", "cpu", 1) as model:
        assert len(model(CROPS)) == 3
    model.close()
    with pytest.raises(ModelError, match=r"model age-nano is closed; open it again"):
        model(CROPS)


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_it_pickles_by_being_opened_again(device: str) -> None:
    """A pickled copy gives the same results with the same spec and device, in this process and in another."""
    if device == "openvino":
        pytest.importorskip("openvino", reason="needs the extra openvino")
    model = numclip.load("age-nano", device, 1)
    data = pickle.dumps(model)
    copy = pickle.loads(data)
    assert copy.spec == model.spec and copy.session.facts == model.session.facts
    assert (copy(CROPS).value == model(CROPS).value).all() and len(data) < 50_000
    code = (
        "import pickle, sys; from numclip.runtime.sessions.choice import probe_crops\n"
        "model = pickle.loads(sys.stdin.buffer.read()); print(model(probe_crops(model.spec.crop.side, 3)).value.tolist())"
    )
    other = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert np.allclose(eval(other.stdout), model(CROPS).value, atol=1e-6)


def test_a_pickle_of_another_file_is_refused(tmp_path: Path) -> None:
    """If the file was calibrated again since, or the model has no file, unpickling or pickling is an error in one sentence."""
    path = tmp_path / "age.onnx"
    path.write_bytes(SHIPPED.read_bytes())
    model = numclip.load(path, "cpu", 1)
    data = pickle.dumps(model)
    write_spec(path, read_spec(path).with_calibration(None))
    with pytest.raises(ModelError, match="expected the file that the model had when it was pickled, got another one"):
        pickle.loads(data)
    with pytest.raises(ModelError, match="was not opened from a model file, so it cannot be pickled"):
        pickle.dumps(Model(model.spec, model.session))
