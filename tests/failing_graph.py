"""Graphs that ONNX Runtime opens, and whose run then fails: the new shape of the pixels depends on them, and has a million faces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from numclip.runtime.contract.faces_spec import INPUT, OUTPUTS
from numclip.runtime.contract.model_file import FINDER, MODELS, read_faces_spec, write_spec
from numclip.runtime.contract.spec import ModelSpec
from numclip.runtime.sessions.session import output_tensors


def write_failing_model(path: Path, spec: ModelSpec) -> Path:
    """A model file of this spec, without calibration; it opens and cannot run."""
    sizes = {name: tuple(size or 0 for size in tensor.sizes) for name, tensor in output_tensors(spec).items()}
    _write(path, spec.graph.input, (spec.crop.side, spec.crop.side, 3), sizes)
    write_spec(path, spec.with_calibration(None))
    return path


def write_failing_finder(path: Path) -> Path:
    """A face finder's file; it opens and cannot run."""
    _write(path, INPUT, ("H", "W", 3), dict(zip(OUTPUTS, ((), (4,), (), (5, 2)), strict=True)))
    write_spec(path, read_faces_spec(MODELS / f"{FINDER}.onnx"))
    return path


def _write(path: Path, name: str, picture: tuple[str | int, ...], outputs: Mapping[str, tuple[int, ...]]) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra quantize")
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", [name], ["whole"], to=kinds.INT64),
        helper.make_node("Cast", [name], ["pixels"], to=kinds.FLOAT),
        helper.make_node("ReduceMax", ["whole"], ["brightest"], keepdims=0),
        helper.make_node("Add", ["brightest", "million"], ["many"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.array([1_000_000], np.int64), "million"),
    ]
    for output, sizes in outputs.items():
        constants.append(onnx.numpy_helper.from_array(np.array(sizes, np.int64), f"{output}_sizes"))
        nodes.append(helper.make_node("Concat", ["many", f"{output}_sizes"], [f"{output}_shape"], axis=0))
        nodes.append(helper.make_node("Reshape", ["pixels", f"{output}_shape"], [output]))
    graph = helper.make_graph(
        nodes,
        "fails",
        [helper.make_tensor_value_info(name, kinds.UINT8, ["N", *picture])],
        [helper.make_tensor_value_info(output, kinds.FLOAT, ["N", *sizes]) for output, sizes in outputs.items()],
        constants,
    )
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
