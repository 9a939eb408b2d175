"""The spec in the model file is checked field by field, and can be rewritten without changing the graph."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numclip.errors import ModelError, OutputError
from numclip.runtime.contract import model_file
from numclip.runtime.contract.spec import ModelSpec

SHIPPED = model_file.MODELS / "age-nano.onnx"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A writable copy of the shipped model."""
    path = tmp_path / "copy.onnx"
    path.write_bytes(SHIPPED.read_bytes())
    return path


def test_calibrating_does_not_change_the_graph(copy: Path) -> None:
    """A rewritten spec can be read, the graph's hash stays the same, and writing the old spec restores the file's bytes."""
    before, spec = model_file.graph_sha256(copy), model_file.read_spec(copy)
    assert spec.calibration is not None
    other = replace(spec.calibration, date="é")
    model_file.write_spec(copy, spec.with_calibration(other))
    assert model_file.read_spec(copy).calibration == other
    assert model_file.graph_sha256(copy) == before
    model_file.write_spec(copy, spec)
    assert copy.read_bytes() == SHIPPED.read_bytes()


def test_rewritten_file_is_valid_onnx(copy: Path) -> None:
    """ONNX's checker accepts the rewritten file, which has exactly one `numclip` entry."""
    onnx = pytest.importorskip("onnx", reason="needs the extra export")
    model_file.write_spec(copy, replace(model_file.read_spec(copy), name="other"))
    model = onnx.load(copy)
    onnx.checker.check_model(model)
    assert [p.key for p in model.metadata_props] == ["numclip"]


def test_spec_survives_json() -> None:
    """to_json and from_json are inverse on the shipped spec."""
    spec = model_file.read_spec(SHIPPED)
    assert ModelSpec.from_json(spec.to_json()).to_json() == spec.to_json()


WRONG = {
    "schema_version": (99, "schema_version: expected 1, got 99; update numclip"),
    "task": (None, "spec field task"),
    "crop.side": ("big", "crop.side: expected a whole number"),
    "crop.interpolation": ("cubic", "crop.interpolation: expected bilinear"),
    "crop.landmarks": ([[0, 0]], "crop.landmarks: expected five"),
    "task.words": (["one"], "task.words: expected at least 2 words, got 1; export the model again"),
    "task.bin_edges": ([0, 1], "task.bin_edges: expected"),
    "graph.value": (3, "graph.value: expected a string"),
    "surprise": (1, "spec field surprise"),
}


@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_field_is_named(field: str, copy: Path) -> None:
    """Each wrong, missing, unknown or newer field gives one sentence that names the field and the file."""
    value, sentence = WRONG[field]
    raw = json.loads(model_file.read_spec(copy).to_json())
    *parents, last = field.split(".")
    inner = raw
    for parent in parents:
        inner = inner[parent]
    inner[last] = value

    class Raw:
        def to_json(self) -> str:
            return json.dumps(raw)

    model_file.write_spec(copy, Raw())  # type: ignore[arg-type]
    with pytest.raises(ModelError) as caught:
        model_file.read_spec(copy)
    assert sentence in str(caught.value) and str(copy) in str(caught.value) and "\n" not in str(caught.value)


def test_another_projects_model_is_refused(tmp_path: Path, yunet_model: Path) -> None:
    """An .onnx file without numclip's metadata is an error in one sentence."""
    with pytest.raises(ModelError, match="has no 'numclip' metadata"):
        model_file.read_spec(yunet_model)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused_in_one_sentence(data: bytes) -> None:
    """Arbitrary bytes never crash the reader; they give a ModelError of one line."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.onnx"
        path.write_bytes(data)
        with pytest.raises(ModelError) as caught:
            model_file.read_spec(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_cut_file_is_refused(copy: Path, share: float) -> None:
    """A model file truncated anywhere is an error and is not run."""
    data = copy.read_bytes()
    copy.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError):
        model_file.read_spec(copy)


def test_names() -> None:
    """A bare name finds the shipped file; a misspelt name gets a suggestion; a missing path is named."""
    assert model_file.resolve("age-nano") == SHIPPED
    with pytest.raises(ModelError, match="did you mean age-nano"):
        model_file.resolve("age-nona")
    with pytest.raises(ModelError, match=r"nowhere/x\.onnx: file not found"):
        model_file.resolve("nowhere/x.onnx")


def test_the_home_of_nobody() -> None:
    """A path below the home folder of an unknown user is a file that is not found."""
    with pytest.raises(ModelError, match=r"^model ~nosuchuser/age\.onnx: file not found; correct the path$"):
        model_file.resolve("~nosuchuser/age.onnx")


def test_a_full_disk_leaves_the_old_file(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk is full, the model file stays unchanged and no temporary file is left."""
    import resource

    old = copy.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(OutputError, match="cannot write"):
            model_file.write_spec(copy, model_file.read_spec(copy))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert copy.read_bytes() == old and list(copy.parent.iterdir()) == [copy]
