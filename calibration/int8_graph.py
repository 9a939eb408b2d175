"""Convert a float graph to INT8: measured ranges, quantize and dequantize nodes, and compact storage of what stays float."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry

from ..errors import ModelError
from ..runtime.contract.spec import ModelSpec

if TYPE_CHECKING:
    from onnxruntime.quantization.calibrate import TensorsData

FLAVOURS = ("cpu", "tensorrt")
RANGES = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
PERCENTILE = 99.99
RANGE_BATCH = 16
WEIGHTED = ("Conv", "MatMul", "Gemm")
TRANSFORMER_OPS = WEIGHTED  # 8-bit tensors around LayerNorm and softmax cost years and save no time
SMALL_TENSOR, LARGE_MATRIX = 256, 1 << 15  # numbers of elements: below the first, compact storage saves nothing


@dataclass(frozen=True, eq=False)
class Plan:
    """A float graph ready for quantization: its layers, the nodes that must stay float, and the measured ranges."""

    graph: onnx.ModelProto
    flavour: str
    ranges: TensorsData
    layers: dict[str, str]  # readable name: node name
    fixed: tuple[str, ...]  # nodes that always stay float
    head: frozenset[str]  # those of them after the image tower's last layer


def make_plan(path: Path, spec: ModelSpec, crops: npt.NDArray[np.uint8], flavour: str, ranges: str) -> Plan:
    """Run the float graph on `crops` [N, S, S, 3], and record the range of every tensor."""
    graph = with_whole_weights(onnx.load(path))
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    tower, head = _split(graph, consumers)
    layers = {_layer_name(node): node.name for node in tower if node.op_type in WEIGHTED and _weight(graph, node)}
    first = next(node for node in tower if node.op_type in WEIGHTED)
    # The first convolution reads three channels, for which ONNX Runtime's integer kernel is slower than the float one.
    fixed = [*head, *_above(graph, first), *([first.name] if flavour == "cpu" else [])]
    layers = {name: node for name, node in layers.items() if node not in fixed}
    with tempfile.TemporaryDirectory(prefix="numclip-ranges-") as folder:
        options = {"percentile": PERCENTILE} if ranges == "percentile" else {}
        onnx.save(graph, Path(folder) / "whole.onnx")
        calibrator = create_calibrator(
            Path(folder) / "whole.onnx",
            _ops(graph),
            str(Path(folder) / "ranges.onnx"),
            RANGES[ranges],
            extra_options=options,
        )
        calibrator.collect_data(_Batches(spec.graph.input, crops))
        return Plan(graph, flavour, calibrator.compute_data(), layers, tuple(fixed), frozenset(head))


def quantized(plan: Plan, kept: frozenset[str]) -> onnx.ModelProto:
    """The graph in INT8, except the plan's fixed nodes and the layers `kept`."""
    symmetric = plan.flavour == "tensorrt"
    options = {"ActivationSymmetric": True, "QuantizeBias": False} if symmetric else {}
    quantizer = QDQQuantizer(
        copy.deepcopy(plan.graph),
        True,  # per channel
        False,  # reduce_range
        QuantType.QInt8,
        QuantType.QInt8 if symmetric else QuantType.QUInt8,
        plan.ranges,
        [],
        [*plan.fixed, *(plan.layers[name] for name in kept)],
        _ops(plan.graph),
        options,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    model: onnx.ModelProto = quantizer.model.model
    model.producer_name = "numclip"
    if not symmetric:
        store_small(model, plan.head)
    del model.graph.value_info[:]
    return model


def with_whole_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with compactly stored weights (Cast and Mul of constants) expanded to float32."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type not in ("Cast", "Mul") or any(name not in constants for name in node.input):
            kept.append(node)
            continue
        given = [constants[name] for name in node.input]
        made = given[0].astype(np.float32) if node.op_type == "Cast" else given[0] * given[1]
        constants[node.output[0]] = made
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(made), node.output[0]))
    used = {name for node in kept for name in node.input}
    weights = [t for t in model.graph.initializer if t.name in used]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(weights)
    return model


def store_small(model: onnx.ModelProto, head: frozenset[str] = frozenset()) -> None:
    """Compact storage with float32 arithmetic: runtimes fold the casts when they open the file.

    Every float tensor is stored as float16, and large matrices of the nodes `head` as int8 per output channel; zero points that
    are zero are removed.
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    added: list[onnx.NodeProto] = []
    for tensor in [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT]:
        values, uses = numpy_helper.to_array(tensor), readers.get(tensor.name, [])
        if values.size < SMALL_TENSOR or any(n.op_type in ("QuantizeLinear", "DequantizeLinear") for n in uses):
            continue
        name, narrow = tensor.name, f"{tensor.name}.stored"
        if values.ndim == 2 and values.size >= LARGE_MATRIX and all(n.name in head for n in uses):
            over = 1 if _transposed(uses[0]) else 0  # the axis that the product sums over
            scale = np.maximum(np.abs(values).max(axis=over, keepdims=True) / 127, np.finfo(np.float32).tiny)
            stored = np.round(values / scale).astype(np.int8)
            model.graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}.step"))
            added += [
                helper.make_node("Cast", [narrow], [f"{name}.whole"], f"{name}.cast", to=TensorProto.FLOAT),
                helper.make_node("Mul", [f"{name}.whole", f"{name}.step"], [name], f"{name}.mul"),
            ]
        else:
            stored = values.astype(np.float16)
            added.append(helper.make_node("Cast", [narrow], [name], f"{name}.cast", to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(stored, narrow))
    nodes = list(model.graph.node)
    constants = {t.name: t for t in model.graph.initializer}
    for node in nodes:
        constant = node.op_type == "DequantizeLinear" and node.input[0] in constants and len(node.input) == 3
        if constant and not numpy_helper.to_array(constants[node.input[2]]).any():
            del node.input[2]
    del model.graph.node[:]
    model.graph.node.extend([*added, *nodes])
    used = {name for node in model.graph.node for name in node.input}
    kept = [t for t in model.graph.initializer if t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _split(
    graph: onnx.ModelProto, consumers: dict[str, list[onnx.NodeProto]]
) -> tuple[list[onnx.NodeProto], list[str]]:
    """The image tower's nodes in order, and the names of the head's: those with no convolution or LayerNorm after them."""
    above: set[str] = set()
    head: list[str] = []
    for node in reversed(graph.graph.node):
        below = any(c.name in above for name in node.output for c in consumers.get(name, []))
        if below or node.op_type in ("Conv", "LayerNormalization"):
            above.add(node.name)
        else:
            head.append(node.name)
    if not above:
        raise ModelError(
            "the graph has no convolutions or LayerNorms, so there is nothing to quantize; give another model"
        )
    return [n for n in graph.graph.node if n.name in above], head


def _above(graph: onnx.ModelProto, node: onnx.NodeProto) -> list[str]:
    """The names of all nodes that a node's first input depends on."""
    makers = {name: n for n in graph.graph.node for name in n.output}
    found: list[str] = []
    waiting = [node.input[0]]
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is not None and maker.name not in found:
            found.append(maker.name)
            waiting += list(maker.input)
    return found


def _weight(graph: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    return node.input[1] in {t.name for t in graph.graph.initializer}


def _layer_name(node: onnx.NodeProto) -> str:
    """The network's name of a layer if its weight has kept it, else the node's name."""
    weight = node.input[1]
    return weight.removesuffix(".weight") if weight.endswith(".weight") else node.name


def _transposed(node: onnx.NodeProto) -> bool:
    return any(a.name == "transB" and a.i for a in node.attribute)


def _ops(graph: onnx.ModelProto) -> list[str]:
    """The operators to quantize in this graph."""
    here = {n.op_type for n in graph.graph.node}
    return sorted(here & set(TRANSFORMER_OPS if "LayerNormalization" in here else QDQRegistry))


class _Batches(CalibrationDataReader):
    """Crops in batches, in the interface of the calibrator."""

    def __init__(self, name: str, crops: npt.NDArray[np.uint8]) -> None:
        self._batches = iter([{name: crops[i : i + RANGE_BATCH]} for i in range(0, len(crops), RANGE_BATCH)])

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return next(self._batches, None)
