"""Build the finder as one ONNX graph: pixels in; boxes after non-maximum suppression, scores and landmarks out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from ..runtime.contract.faces_spec import CANDIDATES, FLOATS, INPUT, OUTPUTS, PADDED, PADS
from ..train.faces.network import STRIDES, Block, FacesNetwork, Layer

OPSET = 18
CANDIDATES_SHARE, LEAST_CANDIDATES, MOST_CANDIDATES = (
    8,
    256,
    3840,
)  # candidates: the best M / 8 of M cells, clamped to 256..3840


class Graph:
    """A graph under construction: nodes and constants in order. Every method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._known: dict[tuple[bytes, str, tuple[int, ...]], str] = {}

    def constant(self, value: npt.ArrayLike, kind: npt.DTypeLike) -> str:
        """Add a constant tensor; equal ones are stored once."""
        array = np.asarray(value, kind)
        key = (array.tobytes(), str(array.dtype), array.shape)
        if key not in self._known:
            self._known[key] = f"constant_{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    def ints(self, *values: int) -> str:
        """Add a constant int64 vector."""
        return self.constant(values, np.int64)

    def floats(self, *values: float) -> str:
        """Add a constant float32 vector."""
        return self.constant(values, np.float32)

    def add(self, operator: str, *inputs: str, out: str | None = None, **attributes: object) -> str:
        """Add a node with one result."""
        name = out or f"{operator.lower()}_{len(self.nodes)}"
        self._append(operator, inputs, [name], attributes)
        return name

    def add_two(self, operator: str, *inputs: str, **attributes: object) -> tuple[str, str]:
        """Add a node with two results."""
        names = [f"{operator.lower()}_{len(self.nodes)}_{i}" for i in range(2)]
        self._append(operator, inputs, names, attributes)
        return names[0], names[1]

    def _append(
        self, operator: str, inputs: Sequence[str], results: Sequence[str], attributes: Mapping[str, object]
    ) -> None:
        node = helper.make_node(operator, list(inputs), list(results), name=results[0])
        node.attribute.extend(helper.make_attribute(name, value) for name, value in sorted(attributes.items()))
        self.nodes.append(node)

    def conv(self, x: str, weight: Tensor, bias: Tensor, stride: int = 1, groups: int = 1) -> str:
        """Add a convolution with "same" padding."""
        side = weight.shape[2]
        kernel = self.constant(weight.detach().numpy(), np.float32)
        offset = self.constant(bias.detach().numpy(), np.float32)
        half = side // 2
        return self.add("Conv", x, kernel, offset, strides=[stride, stride], pads=[half] * 4, group=groups)

    def patches(self, x: str, weight: Tensor, bias: Tensor) -> str:
        """Add a convolution with stride = kernel side on pictures [N, H, W, 3], read as one plane with rows of W * 3 numbers."""
        side = weight.shape[2]
        flat = weight.permute(0, 2, 3, 1).reshape(len(weight), 1, side, side * 3)  # [C, 1, side, 3 side]
        kernel = self.constant(flat.detach().numpy(), np.float32)
        offset = self.constant(bias.detach().numpy(), np.float32)
        size = self.add("Shape", x, start=0, end=2)
        plane = self.add(
            "Reshape",
            x,
            self.add(
                "Concat",
                self.add("Concat", self.slice(size, 0, 1, 0), self.ints(1), self.slice(size, 1, 2, 0), axis=0),
                self.ints(-1),
                axis=0,
            ),
        )
        return self.add("Conv", plane, kernel, offset, strides=[side, 3 * side], pads=[0, 0, side - 1, 3 * side - 3])

    def slice(self, x: str, start: int, stop: int, axis: int) -> str:
        """Add x[..., start:stop, ...] along one axis."""
        return self.add("Slice", x, self.ints(start), self.ints(stop), self.ints(axis))


def to_onnx(network: FacesNetwork, *, score_threshold: float, overlap_threshold: float) -> onnx.ModelProto:
    """Build the complete finder as one graph.

    pictures: uint8 [N, H, W, 3] BGR; picture int64 [F], boxes float32 [F, 4] xyxy px inside the picture, scores
    float32 [F], landmarks float32 [F, 5, 2] px; highest score first.
    """
    graph = Graph()
    network = network.eval()
    x = _padded(graph)
    maps = _maps(graph, network, x)
    _decode(graph, maps, score_threshold, overlap_threshold)
    outputs = [
        helper.make_tensor_value_info("picture", TensorProto.INT64, ["F"]),
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["F", 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["F"]),
        helper.make_tensor_value_info("landmarks", TensorProto.FLOAT, ["F", 5, 2]),
    ]
    inputs = [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", "H", "W", 3])]
    body = helper.make_graph(graph.nodes, "faces", inputs, outputs, graph.constants)
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="numclip", ir_version=10
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _padded(graph: Graph) -> str:
    """Convert pictures [N, H, W, 3] to float, padded with black at the right and bottom to multiples of the largest stride.

    Then every map is exactly twice as large as the next. Padding comes before the conversion, because bytes are smaller than
    floats; TensorRT needs the other order (engine_build.py).
    """
    size = graph.add("Shape", INPUT, start=1, end=3)
    most = graph.add("Add", size, graph.ints(STRIDES[-1] - 1))
    even = graph.add("Mul", graph.add("Div", most, graph.ints(STRIDES[-1])), graph.ints(STRIDES[-1]))
    missing = graph.add("Sub", even, size)  # H, W
    graph.add("Concat", graph.ints(0, 0, 0, 0, 0), missing, graph.ints(0), axis=0, out=PADS)
    graph.add("Pad", INPUT, PADS, out=PADDED)
    return graph.add("Cast", PADDED, out=FLOATS, to=TensorProto.FLOAT)


def _maps(graph: Graph, network: FacesNetwork, x: str) -> list[str]:
    levels: list[str] = []
    for stage in network.stages:
        for layer in _layers(stage):
            if layer is _layers(network.stages[0])[0]:  # the network takes pixels from 0 to 255
                assert isinstance(layer, Layer)
                weight, bias = layer.fused()
                x = graph.add("Relu", graph.patches(x, weight / 255, bias))
            else:
                x = _layer_or_block(graph, x, layer)
        levels.append(x)
    levels = levels[1:]
    necks = [levels[-1]]
    for i in reversed(range(len(STRIDES) - 1)):
        above = _layer(graph, necks[0], network.down[i])
        twice = graph.add(
            "Resize",
            above,
            "",
            graph.floats(1, 1, 2, 2),
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )
        necks.insert(0, _layer(graph, levels[i], network.lateral[i], twice))
    maps: list[str] = []
    for neck, head, output in zip(necks, network.heads, network.outputs, strict=True):
        assert isinstance(output, nn.Conv2d) and output.bias is not None
        maps.append(graph.conv(_layer_or_block(graph, neck, head), output.weight, output.bias))
    return maps


def _layers(stage: nn.Module) -> list[Layer | Block]:
    if isinstance(stage, (Layer, Block)):
        return [stage]
    return [layer for part in stage.children() for layer in _layers(part)]


def _layer_or_block(graph: Graph, x: str, module: nn.Module) -> str:
    if isinstance(module, Block):
        spatial = module.spatial
        assert spatial.bias is not None
        y = graph.conv(x, spatial.weight, spatial.bias, spatial.stride[0], spatial.groups)
        return _layer(graph, y, module.mix, x if module.adds else "")
    return _layer(graph, x, module)


def _layer(graph: Graph, x: str, module: nn.Module, added: str = "") -> str:
    assert isinstance(module, Layer)
    weight, bias = module.fused()
    y = graph.conv(x, weight, bias, module.conv.stride[0], module.conv.groups)
    if added:
        y = graph.add("Add", y, added)
    return graph.add("Relu", y) if module.relu else y


def _decode(graph: Graph, maps: list[str], score_threshold: float, overlap_threshold: float) -> None:
    rows = [graph.add("Reshape", level, graph.ints(0, 0, -1)) for level in maps]  # [N, 15, cells] each
    all_rows = graph.add("Concat", *rows, axis=2)  # [N, 15, M]
    logit = graph.add("Squeeze", graph.slice(all_rows, 0, 1, 1), graph.ints(1))  # [N, M]
    total = graph.add("Shape", logit, start=1)
    share = graph.add("Div", total, graph.ints(CANDIDATES_SHARE))
    enough = graph.add("Min", graph.add("Max", share, graph.ints(LEAST_CANDIDATES)), graph.ints(MOST_CANDIDATES))
    most = graph.add("Min", total, enough)
    best, number = graph.add_two("TopK", logit, most, sorted=0)  # [N, K]
    raw = graph.add(
        "GatherND",
        graph.add("Transpose", all_rows, perm=[0, 2, 1]),
        graph.add("Unsqueeze", number, graph.ints(2)),
        batch_dims=1,
    )  # [N, K, 15]
    corner, stride = _places(graph, maps, number)
    center = graph.add("Add", corner, graph.add("Mul", graph.slice(raw, 1, 3, 2), stride))
    half = graph.add("Mul", graph.add("Exp", graph.slice(raw, 3, 5, 2)), graph.add("Mul", stride, graph.floats(0.5)))
    size = graph.add("Shape", INPUT, start=1, end=3)  # H, W
    limit = graph.add("Cast", graph.add("Gather", size, graph.ints(1, 0)), to=TensorProto.FLOAT)  # W, H
    low = graph.add("Max", graph.add("Min", graph.add("Sub", center, half), limit), graph.floats(0, 0))
    high = graph.add("Max", graph.add("Min", graph.add("Add", center, half), limit), graph.floats(0, 0))
    boxes = graph.add("Concat", low, high, axis=2, out=CANDIDATES[0])  # [N, K, 4]
    scores = graph.add("Sigmoid", best, out=CANDIDATES[1])  # [N, K]
    spread = graph.add("Mul", graph.slice(raw, 5, 15, 2), stride)  # [N, K, 10]
    points = graph.add("Add", spread, graph.add("Concat", *[corner] * 5, axis=2))  # faster than adding to [N, K, 5, 2]
    landmarks = graph.add("Reshape", points, graph.ints(0, 0, 5, 2), out=CANDIDATES[2])
    kept = graph.add(
        "NonMaxSuppression",
        boxes,
        graph.add("Unsqueeze", scores, graph.ints(1)),
        graph.ints(MOST_CANDIDATES),
        graph.floats(overlap_threshold),
        graph.floats(score_threshold),
    )  # [F, 3]: picture, 0, candidate
    keep = graph.add("Gather", kept, graph.ints(0, 2), axis=1)  # [F, 2]
    graph.add("Squeeze", graph.slice(kept, 0, 1, 1), graph.ints(1), out=OUTPUTS[0])
    graph.add("GatherND", boxes, keep, out=OUTPUTS[1])
    graph.add("GatherND", scores, keep, out=OUTPUTS[2])
    graph.add("GatherND", landmarks, keep, out=OUTPUTS[3])


def _places(graph: Graph, maps: list[str], number: str) -> tuple[str, str]:
    """Return upper left corner [N, K, 2] and stride [N, K, 1] (px) of the cells with these indices [N, K]."""
    widths = [graph.add("Shape", level, start=3) for level in maps]
    counts = [
        graph.add("Mul", graph.add("Shape", level, start=2, end=3), w) for level, w in zip(maps, widths, strict=True)
    ]
    firsts = [graph.ints(0), counts[0], graph.add("Add", counts[0], counts[1])]  # index of each map's first cell
    after = [
        graph.add("Cast", graph.add("GreaterOrEqual", number, first), to=TensorProto.INT64) for first in firsts[1:]
    ]
    level = graph.add("Add", *after)  # [N, K] index of the map
    first = graph.add("Gather", graph.add("Concat", *firsts, axis=0), level)
    width = graph.add("Gather", graph.add("Concat", *widths, axis=0), level)
    stride = graph.add("Unsqueeze", graph.add("Gather", graph.floats(*STRIDES), level), graph.ints(2))
    local = graph.add("Sub", number, first)
    row = graph.add("Div", local, width)
    column = graph.add("Sub", local, graph.add("Mul", row, width))
    cell = graph.add("Concat", *[graph.add("Unsqueeze", v, graph.ints(2)) for v in (column, row)], axis=2)
    return graph.add("Mul", graph.add("Cast", cell, to=TensorProto.FLOAT), stride), stride


def maps_of(network: FacesNetwork, pictures: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
    """Return the raw maps as computed by PyTorch, for the parity test."""
    with torch.inference_mode():
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
        return [m.numpy() for m in network.eval()(x)]
