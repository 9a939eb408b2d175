"""ONNX Runtime sessions: an absent device is an error, never a fallback to the CPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from numclip.errors import DeviceError, ModelError
from numclip.runtime.contract.model_file import MODELS, read_spec
from numclip.runtime.sessions.cuda_device import checked, find_card
from numclip.runtime.sessions.model import load
from numclip.runtime.sessions.onnx_graph import OnnxGraph, provider_lists
from numclip.runtime.sessions.opening import open_session
from tests.failing_graph import write_failing_model

SHIPPED = MODELS / "age-nano.onnx"
SPEC = read_spec(SHIPPED)
no_cuda = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="needs an onnxruntime without CUDA"
)


@no_cuda
def test_cuda_is_never_the_cpu() -> None:
    """--device cuda without a CUDA build is an error with the missing part, the available devices and the command to run."""
    with pytest.raises(
        DeviceError, match=r'needs CUDAExecutionProvider.*CPUExecutionProvider; pip install "numclip\[gpu\]"'
    ) as e:
        load("age-nano", "cuda")
    assert "\n" not in str(e.value)


@no_cuda
def test_tensorrt_is_never_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """--device tensorrt without TensorRT names the packages and the command; with TensorRT but no GPU, the missing GPU."""
    monkeypatch.setattr("numclip.runtime.sessions.opening.find_tensorrt", lambda: "tensorrt_rtx")
    monkeypatch.setattr("numclip.runtime.sessions.engine_build.import_tensorrt", lambda library: None)
    if find_card() is None:
        with pytest.raises(DeviceError, match="device tensorrt: needs an NVIDIA GPU and its driver, found none"):
            load("age-nano", "tensorrt")
    monkeypatch.setattr("numclip.runtime.sessions.opening.find_tensorrt", lambda: None)
    with pytest.raises(
        DeviceError, match=r"needs the package tensorrt or .*TensorrtExecutionProvider.*system-site-packages"
    ):
        load("age-nano", "tensorrt")


def test_the_contract_is_checked() -> None:
    """A graph whose input or outputs differ from the spec is an error with the tensor's name and both shapes."""
    with pytest.raises(ModelError, match=rf"expected the input crops uint8 \[N, 64, 64, 3\], got .*{SPEC.crop.side}"):
        open_session(SHIPPED, replace(SPEC, crop=replace(SPEC.crop, side=64)), "cpu", 1)
    with pytest.raises(ModelError, match=r"expected the output embedding float32 \[N, 7\], got float32 \[N, 256\]"):
        open_session(SHIPPED, replace(SPEC, graph=replace(SPEC.graph, embedding_dim=7)), "cpu", 1)


def test_a_graph_that_is_none(tmp_path: Path) -> None:
    """Bytes that are not a graph are an error in one sentence with the library's reason."""
    path = tmp_path / "x.onnx"
    path.write_bytes(b"\x08\x07")
    with pytest.raises(ModelError, match="cannot open the graph") as caught:
        OnnxGraph(path, "cpu", 1)
    assert "\n" not in str(caught.value)


def test_a_graph_that_fails_at_its_run(tmp_path: Path) -> None:
    """If the library opens a graph and its run fails, the error is one sentence with the library, its reason and what to do."""
    session = open_session(write_failing_model(tmp_path / "x.onnx", SPEC), SPEC, "cpu", 1)
    with pytest.raises(
        ModelError, match=r"^onnxruntime .* failed to run it \(.*Reshape.*\); free memory, or export the model again$"
    ) as caught:
        session.run(np.zeros((2, SPEC.crop.side, SPEC.crop.side, 3), np.uint8))
    assert "\n" not in str(caught.value)


def test_an_unknown_device_and_no_threads() -> None:
    """An unknown device and a wrong number of threads are errors that list the valid values."""
    with pytest.raises(DeviceError, match="expected a device among auto, cpu, openvino"):
        open_session(SHIPPED, SPEC, "npu")
    with pytest.raises(DeviceError, match="at least 1 thread, got 0"):
        open_session(SHIPPED, SPEC, "cpu", 0)


def test_what_cuda_and_tensorrt_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA first tries a CUDA graph, then runs without, never in TF32. TensorRT's caches carry the version; FP16 is up to the graph."""
    monkeypatch.setenv("NUMCLIP_CACHE", str(tmp_path))
    graph, plain = provider_lists("cuda", "9.9")
    assert graph[0][1] == {"enable_cuda_graph": "1", "use_tf32": "0"} and plain[0][1] == {"use_tf32": "0"}
    ((_, options), *_rest) = provider_lists("tensorrt", "9.9")[0]
    assert options["trt_fp16_enable"] == "0" and options["trt_engine_cache_path"] == str(
        tmp_path / "tensorrt-onnxruntime-9.9"
    )
    assert Path(options["trt_timing_cache_path"]).is_dir()


def test_a_cuda_error_is_a_sentence() -> None:
    """A CUDA call returns a value, or raises an error with its code."""

    class Code(int):
        name = "cudaErrorNoDevice"

    assert checked((Code(0), 5)) == 5 and checked((Code(0), 5, 6)) == (5, 6)
    with pytest.raises(DeviceError, match=r"cudaErrorNoDevice \(100\).*nvidia-smi"):
        checked((Code(100),))


@pytest.mark.gpu
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_cuda_answers_like_the_cpu(batch: int) -> None:
    """On a GPU, with bound memory and a replayed CUDA graph, ages are within 0.02 years of the CPU's."""
    crops = np.random.default_rng(batch).integers(0, 256, (batch, SPEC.crop.side, SPEC.crop.side, 3), np.uint8)
    session, expected = open_session(SHIPPED, SPEC, "cuda"), open_session(SHIPPED, SPEC, "cpu").run(crops)
    for _ in range(3):
        np.testing.assert_allclose(session.run(crops).value, expected.value, atol=0.02)


def test_nothing_of_cuda_is_imported() -> None:
    """The CPU session imports no CUDA bindings."""
    open_session(SHIPPED, SPEC, "cpu", 1).run(np.zeros((1, SPEC.crop.side, SPEC.crop.side, 3), np.uint8))
    assert not any(name == "cuda" or name.startswith("cuda.") for name in sys.modules)
