"""The Triton repository, checked against Triton's published schema."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from numclip.cli.main import main
from numclip.deploy import triton_repository
from numclip.deploy.triton import write_repository
from numclip.errors import NumclipError
from numclip.runtime.contract.model_file import MODELS, read_spec

SHIPPED = MODELS / "age-nano.onnx"
SPEC = read_spec(SHIPPED)


@pytest.fixture(scope="module")
def schema() -> ModuleType:
    """model_config.proto from tritonclient, loaded without importing the client."""
    found = importlib.util.find_spec("tritonclient")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs tritonclient, from the extra dev")
    path = Path(found.submodule_search_locations[0]) / "grpc/model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("suffix", "backend", "file", "name"),
    [
        (".onnx", "onnxruntime", "model.onnx", "age-nano"),
        (".engine", "tensorrt", "model.plan", "age-nano-plan"),
    ],
)
def test_the_config_is_tritons(
    suffix: str, backend: str, file: str, name: str, schema: ModuleType, tmp_path: Path
) -> None:
    """Every field exists in Triton's schema; names, types and shapes follow the contract; batching and warm-up are set."""
    from google.protobuf import text_format

    model = tmp_path / f"m{suffix}"
    model.write_bytes(SHIPPED.read_bytes())
    place = write_repository(tmp_path / "repository", model, SPEC, max_batch=16)
    config = text_format.Parse((place / "config.pbtxt").read_text(), schema.ModelConfig())
    assert (config.name, place.name, config.backend, config.max_batch_size) == (name, name, backend, 16)
    assert config.default_model_filename == file and (place / "1" / file).read_bytes() == model.read_bytes()
    uint8, fp32 = schema.DataType.Value("TYPE_UINT8"), schema.DataType.Value("TYPE_FP32")
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [("crops", uint8, [80, 80, 3])]
    outputs = {o.name: (o.data_type, list(o.dims)) for o in config.output}
    assert outputs == {"value": (fp32, [1]), "probabilities": (fp32, [11]), "embedding": (fp32, [256])}
    assert config.output[0].HasField("reshape") and list(config.output[0].reshape.shape) == []
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 16]
    assert [(w.batch_size, w.inputs["crops"].zero_data, list(w.inputs["crops"].dims)) for w in config.model_warmup] == [
        (1, True, [80, 80, 3]),
        (16, True, [80, 80, 3]),
    ]


def test_one_face_at_a_time(schema: ModuleType, tmp_path: Path) -> None:
    """With a maximum batch of one, batch sizes and warm-up list it only once."""
    from google.protobuf import text_format

    place = write_repository(tmp_path, SHIPPED, replace(SPEC, name="one"), max_batch=1)
    config = text_format.Parse((place / "config.pbtxt").read_text(), schema.ModelConfig())
    assert list(config.dynamic_batching.preferred_batch_size) == [1] and len(config.model_warmup) == 1


def test_the_command_and_the_call_write_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`numclip deploy triton age-nano` and `triton_repository("age-nano")` write identical files."""
    assert main(["deploy", "triton", "age-nano", "--out", str(tmp_path / "a")]) == 0
    assert "next: tritonserver" in capsys.readouterr().out
    place = triton_repository("age-nano", tmp_path / "b")
    for name in ("config.pbtxt", "1/model.onnx"):
        assert (tmp_path / "a/age-nano" / name).read_bytes() == (place / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "said"), [(["--max-batch", "0"], "at least 1"), (["--max-batchh", "1"], "did you mean")]
)
def test_wrong_flags_of_triton(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong flags are errors with exit code 2, and nothing is written."""
    try:
        code = main(["deploy", "triton", "age-nano", "--out", str(tmp_path / "a"), *words])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A file in a folder's place is an error in one sentence."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(NumclipError, match="cannot write"):
        write_repository(tmp_path / "taken", SHIPPED, SPEC)
