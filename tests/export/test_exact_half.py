"""Weights stored as float16: half the bytes, and no weight changes."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra export")
pytest.importorskip("torch", reason="needs the extra train")
from onnx import ModelProto, TensorProto, helper, numpy_helper  # noqa: E402

from numclip.calibration.int8_graph import with_whole_weights  # noqa: E402
from numclip.export.exact_half import store_half  # noqa: E402


def product(weight: np.ndarray) -> ModelProto:
    """y = conv(x, weight), a 1 x 1 convolution."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4, 1, 1]) for n in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "conv")],
        "g",
        values[:1],
        values[1:],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def stored(model: ModelProto) -> dict[str, int]:
    return {t.name: t.data_type for t in model.graph.initializer}


def restored(model: ModelProto) -> np.ndarray:
    return numpy_helper.to_array(next(t for t in with_whole_weights(model).graph.initializer if t.name == "w"))


random = np.random.default_rng(0)
HALVES = random.normal(size=(4, 4, 1, 1)).astype(np.float16).astype(np.float32)
FACTOR = random.uniform(0.1, 30, 4).astype(np.float32)
FOLDED = HALVES * FACTOR[:, None, None, None]


def test_half_weights_are_stored_as_they_are() -> None:
    """Weights that float16 represents exactly are stored as float16 and restored bit by bit."""
    model = product(HALVES)
    store_half(model, {})
    onnx.checker.check_model(model)
    assert stored(model) == {"w.half": TensorProto.FLOAT16}
    np.testing.assert_array_equal(restored(model), HALVES)


def test_folded_weights_are_stored_with_their_factor() -> None:
    """Float16 weights times a batch norm's factor are stored as weight and factor and restored bit by bit."""
    model = product(FOLDED)
    store_half(model, {"w": FACTOR})
    onnx.checker.check_model(model)
    assert stored(model)["w.half"] == TensorProto.FLOAT16
    np.testing.assert_array_equal(restored(model), FOLDED)


def test_other_weights_are_left() -> None:
    """Weights that float16 cannot represent exactly, or that are too large for it, stay float32."""
    for weight in (FOLDED, 1e6 * np.ones_like(HALVES)):
        model = product(weight)
        store_half(model, {})
        assert stored(model) == {"w": TensorProto.FLOAT}
