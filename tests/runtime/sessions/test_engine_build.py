"""TensorRT-RTX compiles exported models without a GPU; its network has the contract's tensors."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from numclip.cli.main import main
from numclip.errors import DeviceError, ModelError
from numclip.runtime.contract.model_file import MODELS, graph_sha256, read_spec, write_spec
from numclip.runtime.contract.spec import ModelSpec
from numclip.runtime.sessions import engine_build
from numclip.runtime.sessions.engine_build import (
    WORKSPACE_LIMIT_MB,
    EngineOptions,
    build_engine,
    fitted_workspace_mb,
    workspace_mb,
)
from numclip.runtime.sessions.engine_file import read_sidecar
from numclip.runtime.sessions.tensorrt_versions import import_tensorrt, quiet_logger

if importlib.util.find_spec("tensorrt_rtx") is None:
    pytest.skip("needs the extra tensorrt-rtx", allow_module_level=True)
torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("onnxscript", reason="needs the extra export")

TARGETS = (86, 89)
CHECKPOINT = Path(__file__).resolve().parents[3] / "train/checkpoints/age-nano.safetensors"
FRAGILE = "image_tower.trunk.blocks.0.0.conv_dw"
PRECISIONS = ["fp32", "fp32 stored in half", "fp16", "int8"]


def export(precision: str, path: Path) -> ModelSpec:
    """An .onnx file: age-nano in one precision, or a random ViT-B/16."""
    from numclip.bench.rivals import random_network
    from numclip.calibration.int8_graph import make_plan, quantized
    from numclip.export.frozen import Frozen
    from numclip.export.half import half_network
    from numclip.export.to_onnx import to_onnx
    from numclip.runtime.places import write_whole
    from numclip.runtime.sessions.choice import probe_crops
    from numclip.train.checkpoint import load_checkpoint
    from numclip.train.checkpoint_model import checkpoint_spec

    if precision.startswith("ViT"):
        network = random_network("ViT-B-16")
    else:
        network, _ = load_checkpoint(CHECKPOINT)
    spec, frozen = checkpoint_spec(network, path.stem), Frozen(network).eval()
    half = precision.endswith("fp16")
    model = to_onnx(half_network(frozen) if half else frozen, spec.crop.side, half_weights="stored" in precision)
    path.write_bytes(model.SerializeToString())
    if precision == "int8":
        write_spec(path, spec)
        plan = make_plan(path, spec, probe_crops(spec.crop.side, 16), "tensorrt", "minmax")
        write_whole(path, quantized(plan, frozenset({FRAGILE})).SerializeToString())
    kind = "fp16" if half else precision[:4]
    spec = replace(spec, graph=replace(spec.graph, precision=kind, flavour="tensorrt"))
    write_spec(path, spec)
    return spec


def network_of(path: Path) -> tuple[Any, Any, Any]:
    """Return TensorRT-RTX, the network that it reads from an .onnx, and the objects that keep it alive."""
    trt = import_tensorrt("tensorrt_rtx")
    logger = quiet_logger(trt)
    builder = trt.Builder(logger)
    network, parser = engine_build.parsed(trt, builder, logger, path)
    return trt, network, (logger, builder, parser)


@pytest.mark.parametrize("precision", [*PRECISIONS, pytest.param("ViT-B-16 fp16", marks=pytest.mark.slow)])
def test_compiles(precision: str, tmp_path: Path) -> None:
    """Each precision compiles for compute capability 8.6 and 8.9. The network has the contract's names, types and shapes, with any
    number of faces. The sidecar names the target."""
    path = tmp_path / "age.onnx"
    spec = export(precision, path)
    side, bins, dim = spec.crop.side, spec.task.num_bins, spec.graph.embedding_dim
    trt, network, alive = network_of(path)
    assert network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = {o.name: o for o in (network.get_output(i) for i in range(network.num_outputs))}
    assert [(i.name, i.dtype, tuple(i.shape)) for i in inputs] == [("crops", trt.uint8, (-1, side, side, 3))]
    shapes = {"value": (-1,), "probabilities": (-1, bins), "embedding": (-1, dim)}
    assert {name: tuple(o.shape) for name, o in outputs.items()} == shapes
    assert {o.dtype for o in outputs.values()} == {trt.float32}
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    products = [x for x in layers if x.type in (trt.LayerType.CONVOLUTION, trt.LayerType.MATRIX_MULTIPLY)]
    half = [x for x in products if x.get_output(0).dtype == trt.float16]
    int8 = [x for x in layers if x.get_output(0).dtype == trt.int8]
    assert len(half) >= 12 if precision.endswith("fp16") else not half
    assert len(int8) >= 50 if precision == "int8" else not int8
    out = tmp_path / "age.engine"
    options = EngineOptions(path, out, max_batch=16, library="tensorrt_rtx", targets=TARGETS)
    built = build_engine(options).built
    assert built.compute_capabilities == ("8.6", "8.9") and built.gpu is None and built.max_batch == 16
    assert built.graph_sha256 == graph_sha256(path) and read_sidecar(out) == (spec, built)
    del alive


def test_the_profile(tmp_path: Path) -> None:
    """The profile's three sizes are one face, a typical number, and the maximum."""
    trt = import_tensorrt("tensorrt_rtx")
    builder, spec = trt.Builder(quiet_logger(trt)), read_spec(MODELS / "age-nano.onnx")
    side = spec.crop.side
    for most, usual in ((32, 4), (2, 2), (1, 1)):
        profile = engine_build.faces_profile(builder, spec, most)
        assert [tuple(s) for s in profile.get_shape("crops")] == [(n, side, side, 3) for n in (1, usual, most)]


def test_the_command_writes_a_triton_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """numclip engine compiles a file for named GPUs, and deploy triton writes it into a repository as a plan."""
    path, out = tmp_path / "age.onnx", tmp_path / "age.engine"
    export("fp32", path)
    argv = ["engine", str(path), "--out", str(out), "--library", "tensorrt_rtx", "--targets", "89", "--max-batch", "8"]
    assert main(argv) == 0 and "next: numclip verify" in capsys.readouterr().out
    assert main(["deploy", "triton", str(out), "--out", str(tmp_path / "repository")]) == 0
    assert json.loads(out.with_name("age.engine.json").read_text())["built"]["compute_capabilities"] == ["8.9"]
    assert (tmp_path / "repository/age-plan/1/model.plan").read_bytes() == out.read_bytes()
    assert "max_batch_size: 8" in (tmp_path / "repository/age-plan/config.pbtxt").read_text()


def test_a_cpu_flavour_is_refused(tmp_path: Path) -> None:
    """An INT8 file for CPUs is an error, with the command for the right file, before TensorRT is called."""
    path = tmp_path / "q.onnx"
    path.write_bytes((MODELS / "age-nano.onnx").read_bytes())
    spec = read_spec(path)
    write_spec(path, replace(spec, graph=replace(spec.graph, flavour="cpu")))
    with pytest.raises(ModelError, match="numclip quantize --flavour tensorrt"):
        build_engine(EngineOptions(path, tmp_path / "q.engine", targets=TARGETS))


def test_a_graph_that_is_none_is_refused(tmp_path: Path, yunet_model: Path) -> None:
    """A graph that TensorRT's parser cannot read is an error in one sentence with the parser's reason."""
    path = tmp_path / "broken.onnx"
    path.write_bytes((MODELS / "age-nano.onnx").read_bytes()[:100_000])
    with pytest.raises(ModelError, match="cannot read this graph") as caught:
        network_of(path)
    assert "\n" not in str(caught.value)


def test_the_workspace_fits_the_free_memory() -> None:
    """The workspace is half of the free memory, up to a limit; too little free memory is an error that says how much there is."""

    assert fitted_workspace_mb(3000) == 1500 and fitted_workspace_mb(80_000) == WORKSPACE_LIMIT_MB
    with pytest.raises(DeviceError, match="got 100"):
        fitted_workspace_mb(100)
    asked, left = (EngineOptions("x", Path("x.engine"), workspace_mb=mb) for mb in (77, None))
    assert workspace_mb(asked, None) == 77 and workspace_mb(left, None) == WORKSPACE_LIMIT_MB
