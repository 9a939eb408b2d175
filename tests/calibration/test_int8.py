"""INT8 of the shipped model: two flavours, a float head, a small file, and layers that are kept in float."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra quantize")
from onnx import ModelProto  # noqa: E402

from numclip.calibration import QuantizeOptions, int8, quantize  # noqa: E402
from numclip.calibration import int8_graph as graphs  # noqa: E402
from numclip.calibration.measure import parity  # noqa: E402
from numclip.calibration.measure.parity import ProofFaces, difference  # noqa: E402
from numclip.calibration.measure.predictor import answers  # noqa: E402
from numclip.cli.main import main  # noqa: E402
from numclip.errors import UsageError  # noqa: E402
from numclip.runtime.contract.model_file import MODELS, graph_sha256, read_spec, write_spec  # noqa: E402
from numclip.runtime.places import write_whole  # noqa: E402
from numclip.runtime.sessions.choice import probe_crops  # noqa: E402
from numclip.runtime.sessions.opening import open_session  # noqa: E402

SHIPPED = MODELS / "age-nano.onnx"
SPEC = read_spec(SHIPPED)
ONE_LAYER = "image_tower.trunk.blocks.0.0.conv_dw"
CROPS = probe_crops(SPEC.crop.side, 24)


@pytest.fixture(scope="module")
def plans() -> dict[str, graphs.Plan]:
    """A plan of each flavour, with ranges from smooth synthetic pictures."""
    return {flavour: graphs.make_plan(SHIPPED, SPEC, CROPS, flavour, "minmax") for flavour in graphs.FLAVOURS}


def written(model: ModelProto, path: Path) -> Path:
    write_whole(path, model.SerializeToString())
    write_spec(path, replace(SPEC, calibration=None))
    return path


@pytest.mark.parametrize("flavour", graphs.FLAVOURS)
def test_a_flavour_opens_and_answers_alike(flavour: str, plans: dict[str, graphs.Plan], tmp_path: Path) -> None:
    """The INT8 graph keeps the contract, and its outputs are close to the float graph's on the calibration pictures."""
    first = frozenset(list(plans[flavour].layers)[:4])  # kept in float: they have the widest range
    path = written(graphs.quantized(plans[flavour], first), tmp_path / "q.onnx")
    onnx.checker.check_model(onnx.load(path))
    found = difference(
        answers(open_session(path, SPEC, "cpu"), CROPS),
        answers(open_session(SHIPPED, SPEC, "cpu"), CROPS),
        np.zeros(24),
    )
    assert found.not_finite == 0 and found.mean < 2 and found.cosine is not None and found.cosine > 0.9


def test_the_cpu_flavour_is_small(plans: dict[str, graphs.Plan], tmp_path: Path) -> None:
    """The CPU flavour has at most 3 MB (float32: 10.5 MB, with float16 weights 5.4 MB)."""
    path = written(graphs.quantized(plans["cpu"], frozenset({ONE_LAYER})), tmp_path / "q.onnx")
    assert path.stat().st_size <= 3_000_000


@pytest.mark.parametrize("flavour", graphs.FLAVOURS)
def test_types_of_a_flavour(flavour: str, plans: dict[str, graphs.Plan]) -> None:
    """Activations are unsigned for CPUs, signed and symmetric for TensorRT; weights are signed; the head is not quantized."""
    graph = graphs.quantized(plans[flavour], frozenset()).graph
    constants = {t.name: t for t in graph.initializer}
    wanted = onnx.TensorProto.UINT8 if flavour == "cpu" else onnx.TensorProto.INT8
    zeros = [constants[n.input[2]] for n in graph.node if n.op_type == "QuantizeLinear"]
    assert zeros and {z.data_type for z in zeros} == {wanted}
    if flavour == "tensorrt":
        assert not any(onnx.numpy_helper.to_array(z).any() for z in zeros)
    made_by = {name: n for n in graph.node for name in n.output}
    head = [n for n in graph.node if n.op_type in ("Gemm", "MatMul")]
    assert len(head) >= 5
    assert not any(made_by[name].op_type == "DequantizeLinear" for n in head for name in n.input if name in made_by)


def test_kept_layers_stay_float(plans: dict[str, graphs.Plan]) -> None:
    """A convolution kept in float has no dequantized weight; its neighbours do."""
    plan = plans["cpu"]
    graph = graphs.quantized(plan, frozenset({ONE_LAYER})).graph
    makers = {name: n.op_type for n in graph.node for name in n.output}
    weights = {n.name: makers.get(n.input[1]) for n in graph.node if n.op_type == "Conv"}
    assert weights[plan.layers[ONE_LAYER]] == "Cast"  # stored as float16
    assert sum(maker == "DequantizeLinear" for maker in weights.values()) == len(plan.layers) - 1


def test_harm_of_layers(plans: dict[str, graphs.Plan]) -> None:
    """With every layer in float, only the rounding of stored weights remains. With all depthwise layers in float the difference is at
    most that with none: a kept layer is really computed in float, although ONNX Runtime's optimiser would use int8."""
    proof = ProofFaces(CROPS, np.full(24, 30.0), "smooth pictures")
    trial = int8.Trial(plans["cpu"], SPEC, proof, answers(open_session(SHIPPED, SPEC, "cpu"), CROPS))
    depthwise = frozenset(name for name in plans["cpu"].layers if name.endswith("conv_dw"))
    assert trial.harm(frozenset(plans["cpu"].layers), every=2) < 0.2
    assert len(depthwise) == 13 and trial.harm(depthwise, every=2) <= trial.harm(frozenset(), every=2)


def test_only_float_files_are_quantized(plans: dict[str, graphs.Plan], tmp_path: Path) -> None:
    """Quantizing an INT8 file is an error that names the float file to use."""
    path = written(graphs.quantized(plans["cpu"], frozenset()), tmp_path / "q.onnx")
    write_spec(path, replace(SPEC, graph=replace(SPEC.graph, precision="int8")))
    with pytest.raises(UsageError, match="expected a float32 model, got int8"):
        quantize(QuantizeOptions(path, ["x"], tmp_path / "o.onnx"))


@pytest.mark.slow
def test_the_command(shared_data: Path, yunet_model: Path, tmp_path: Path) -> None:
    """On 1,200 faces the INT8 file's MAE is within 0.05 years of float32's, in at most 3 MB. Kept layers, if any, are named. The
    calibration, which belongs to the float graph, is removed, and the origin is recorded."""
    data = [f"{kind}:{shared_data}/data/{kind}.tar" for kind in ("utkface", "aaf")]
    out, report = tmp_path / "age.int8.onnx", tmp_path / "report.json"
    assert main(["quantize", "age-nano", "--data", *data, "--out", str(out), "--widen", "--json", str(report)]) == 0
    spec, said = read_spec(out), json.loads(report.read_text())
    row, made = spec.parity["int8"], spec.provenance.quantization
    assert made is not None and row.mae_change is not None
    assert row.n == 1200 and row.mae_change <= 0.05 and row.not_finite == 0 and out.stat().st_size <= 3_000_000
    assert set(said["kept"]) == set(made.kept_float)
    assert spec.calibration is None and made.from_graph_sha256 == graph_sha256(SHIPPED)


@pytest.fixture
def few(tmp_path: Path) -> str:
    """A table of four shifted pictures of one well-known face: two for calibration, two for val."""
    cv2 = pytest.importorskip("cv2")
    pictures = pytest.importorskip("skimage.data", reason="needs the extra demo")
    rows = ["file,label,split"]
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.roll(pictures.astronaut()[:, :, ::-1], 3 * i, axis=1))
        rows.append(f"{i}.png,{30 + i},{'calibration' if i < 2 else 'val'}")
    (tmp_path / "few.csv").write_text("\n".join(rows))
    return f"table:{tmp_path / 'few.csv'}"


def test_the_number_of_faces_is_the_number_used(few: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the data has fewer faces than --num-faces, the file records how many gave the ranges; its error is measured on val."""
    monkeypatch.setitem(parity.LIMITS, "int8", {"mean": 100.0})
    made = quantize(QuantizeOptions("age-nano", [few], tmp_path / "q.onnx", num_faces=300)).spec
    assert made.provenance.quantization is not None and made.provenance.quantization.faces == 2
    assert [(m.split, m.n) for m in made.metrics] == [("val", 2)]


def test_a_place_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that does not exist is an error before the data is read, for the file and for the report."""
    absent, here = str(tmp_path / "none" / "x"), str(tmp_path / "q.onnx")
    for places in (["--out", absent], ["--out", here, "--json", absent], ["--out", str(tmp_path)]):
        assert main(["quantize", "age-nano", "--data", "table:absent.csv", *places]) == 1
        assert "cannot write" in capsys.readouterr().err
    for words in (["calibrate", "age-nano"], ["card", "age-nano"]):
        assert main([*words, "--data", "table:absent.csv", "--out", absent]) == 1
        assert f"cannot write {absent}: {tmp_path / 'none'} is not a folder that exists" in capsys.readouterr().err


def test_beyond_its_limits_nothing_is_written(
    few: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With limits that no INT8 file can meet the command fails, names the figures and --widen, and leaves no file."""
    monkeypatch.setitem(parity.LIMITS, "int8", {"mean": 1e-4})
    out = tmp_path / "q.onnx"
    assert main(["quantize", "age-nano", "--data", few, "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert (
        "the INT8 file exceeds its limits" in said
        and "at most 0.0001" in said
        and "--widen" in said
        and not out.exists()
    )
