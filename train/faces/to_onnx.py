"""The network as an ONNX graph that does everything itself: pixels in, suppressed boxes, scores and landmarks out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from .network import STRIDES, Block, FacesNetwork, Layer

OPSET = 18
FAR_PX = 65536.0  # pictures of one call are moved this far apart, so that suppression never mixes them


class Graph:
    """Nodes and constants in the order they are added; every method returns the name of the result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._known: dict[tuple[bytes, str, tuple[int, ...]], str] = {}

    def constant(self, value: npt.ArrayLike, kind: npt.DTypeLike) -> str:
        """A constant tensor; equal ones are kept once."""
        array = np.asarray(value, kind)
        key = (array.tobytes(), str(array.dtype), array.shape)
        if key not in self._known:
            self._known[key] = f"constant_{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    def ints(self, *values: int) -> str:
        """A constant int64 vector."""
        return self.constant(values, np.int64)

    def floats(self, *values: float) -> str:
        """A constant float32 vector."""
        return self.constant(values, np.float32)

    def add(self, operator: str, *inputs: str, out: str | None = None, **attributes: object) -> str:
        """One node with one result."""
        name = out or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def conv(self, x: str, weight: Tensor, bias: Tensor, stride: int = 1, groups: int = 1) -> str:
        """A convolution padded by half its side."""
        side = weight.shape[2]
        kernel = self.constant(weight.detach().numpy(), np.float32)
        offset = self.constant(bias.detach().numpy(), np.float32)
        return self.add(
            "Conv", x, kernel, offset, kernel_shape=[side, side], strides=[stride, stride], pads=[(side - 1) // 2] * 4, group=groups
        )

    def slice(self, x: str, start: int, stop: int, axis: int) -> str:
        """x[..., start:stop, ...] along one axis."""
        return self.add("Slice", x, self.ints(start), self.ints(stop), self.ints(axis))


def to_onnx(network: FacesNetwork, *, score_threshold: float, overlap_threshold: float, most: int) -> onnx.ModelProto:
    """The whole finder as one graph.

    pictures: uint8 [N, H, W, 3] BGR; picture int64 [F], boxes float32 [F, 4] xyxy px inside the picture, scores
    float32 [F], landmarks float32 [F, 5, 2] px; the best score first. At most `most` faces in one call.
    """
    graph = Graph()
    network = network.eval()
    planes = graph.add("Transpose", "pictures", perm=[0, 3, 1, 2])
    size = graph.add("Shape", planes, start=2)
    more = graph.add("Mod", graph.add("Neg", size), graph.ints(32))
    pads = graph.add("Concat", graph.ints(0, 0, 0, 0, 0, 0), more, axis=0)
    x = graph.add("Cast", graph.add("Pad", planes, pads), to=TensorProto.FLOAT)
    maps = _maps(graph, network, x)
    _decode(graph, maps, score_threshold, overlap_threshold, most)
    outputs = [
        helper.make_tensor_value_info("picture", TensorProto.INT64, ["F"]),
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["F", 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["F"]),
        helper.make_tensor_value_info("landmarks", TensorProto.FLOAT, ["F", 5, 2]),
    ]
    inputs = [helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["N", "H", "W", 3])]
    body = helper.make_graph(graph.nodes, "faces", inputs, outputs, graph.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="numclip", ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _maps(graph: Graph, network: FacesNetwork, x: str) -> list[str]:
    scaled = True
    levels: list[str] = []
    for stage in network.stages:
        for layer in _layers(stage):
            if scaled:  # the first layer reads 0 to 255
                weight, bias = layer.fused()
                x = graph.add("Relu", graph.conv(x, weight / 255, bias, layer.conv.stride[0]))
                scaled = False
            else:
                x = _layer_or_block(graph, x, layer)
        levels.append(x)
    above, maps = "", [""] * len(STRIDES)
    for i in reversed(range(len(STRIDES))):
        twice = ""
        if above:
            twice = graph.add("Resize", above, "", graph.floats(1, 1, 2, 2), mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")
        above = y = _layer(graph, levels[i + 1], network.lateral[i], twice)
        head = _layer_or_block(graph, y, network.heads[i])
        output = network.outputs[i]
        maps[i] = graph.conv(head, output.weight, output.bias)
    return maps


def _layers(stage: nn.Module) -> list[nn.Module]:
    if isinstance(stage, (Layer, Block)):
        return [stage]
    return [layer for part in stage.children() for layer in _layers(part)]


def _layer_or_block(graph: Graph, x: str, module: nn.Module) -> str:
    if isinstance(module, Block):
        return _layer(graph, _layer(graph, x, module.spatial), module.mix, x if module.adds else "")
    return _layer(graph, x, module)


def _layer(graph: Graph, x: str, module: nn.Module, added: str = "") -> str:
    assert isinstance(module, Layer)
    weight, bias = module.fused()
    y = graph.conv(x, weight, bias, module.conv.stride[0], module.conv.groups)
    if added:
        y = graph.add("Add", y, added)
    return graph.add("Relu", y) if module.relu else y


def _decode(graph: Graph, maps: list[str], score_threshold: float, overlap_threshold: float, most: int) -> None:
    logits, rows, cells = [], [], []
    for stride, level in zip(STRIDES, maps, strict=True):
        flat = graph.add("Reshape", level, graph.ints(0, 0, -1))  # [N, 15, M]
        logits.append(graph.slice(flat, 0, 1, 1))
        rows.append(flat)
        width = graph.add("Shape", level, start=3)  # [1]
        count = graph.add("Shape", flat, start=2)
        scalar = graph.add("Squeeze", count)
        number = graph.add("Range", graph.constant(0, np.int64), scalar, graph.constant(1, np.int64))  # [M]
        row = graph.add("Div", number, width)
        column = graph.add("Sub", number, graph.add("Mul", row, width))
        place = graph.add("Concat", *[graph.add("Unsqueeze", v, graph.ints(1)) for v in (column, row)], axis=1)
        px = graph.add("Mul", graph.add("Cast", place, to=TensorProto.FLOAT), graph.floats(stride))  # [M, 2]
        side = graph.add("Expand", graph.floats(stride), graph.add("Concat", count, graph.ints(1), axis=0))  # [M, 1]
        cells.append(graph.add("Concat", px, side, axis=1))  # [M, 3]: x, y, stride
    cell = graph.add("Concat", *cells, axis=0)
    all_rows = graph.add("Concat", *rows, axis=2)  # [N, 15, M]
    logit = graph.slice(all_rows, 0, 1, 1)
    logit = graph.add("Squeeze", logit, graph.ints(1))  # [N, M]
    edge = float(np.log(score_threshold / (1 - score_threshold)))
    found = graph.add("NonZero", graph.add("Greater", logit, graph.floats(edge)))  # [2, C]
    picture = graph.add("Gather", found, graph.constant(0, np.int64), axis=0)  # [C]
    number = graph.add("Gather", found, graph.constant(1, np.int64), axis=0)
    index = graph.add("Transpose", found, perm=[1, 0])  # [C, 2]
    raw = graph.add("GatherND", graph.add("Transpose", all_rows, perm=[0, 2, 1]), index)  # [C, 15]
    place = graph.add("Gather", cell, number, axis=0)  # [C, 3]
    corner = graph.slice(place, 0, 2, 1)
    stride = graph.slice(place, 2, 3, 1)
    center = graph.add("Add", corner, graph.add("Mul", graph.slice(raw, 1, 3, 1), stride))
    half = graph.add("Mul", graph.add("Exp", graph.slice(raw, 3, 5, 1)), graph.add("Mul", stride, graph.floats(0.5)))
    size = graph.add("Shape", "pictures", start=1, end=3)  # H, W
    limit = graph.add("Cast", graph.add("Gather", size, graph.ints(1, 0)), to=TensorProto.FLOAT)  # W, H
    low = graph.add("Max", graph.add("Min", graph.add("Sub", center, half), limit), graph.floats(0, 0))
    high = graph.add("Max", graph.add("Min", graph.add("Add", center, half), limit), graph.floats(0, 0))
    boxes = graph.add("Concat", low, high, axis=1)  # [C, 4]
    scores = graph.add("Sigmoid", graph.slice(raw, 0, 1, 1))  # [C, 1]
    apart = graph.add("Mul", graph.add("Cast", picture, to=TensorProto.FLOAT), graph.floats(FAR_PX))
    moved = graph.add("Add", boxes, graph.add("Unsqueeze", apart, graph.ints(1)))
    kept = graph.add(
        "NonMaxSuppression",
        graph.add("Unsqueeze", moved, graph.ints(0)),
        graph.add("Unsqueeze", graph.add("Transpose", scores, perm=[1, 0]), graph.ints(0)),
        graph.ints(most),
        graph.floats(overlap_threshold),
    )  # [F, 3]
    keep = graph.add("Squeeze", graph.slice(kept, 2, 3, 1), graph.ints(1))  # [F]
    graph.add("Gather", picture, keep, axis=0, out="picture")
    graph.add("Gather", boxes, keep, axis=0, out="boxes")
    graph.add("Squeeze", graph.add("Gather", scores, keep, axis=0), graph.ints(1), out="scores")
    points = graph.add("Reshape", graph.slice(graph.add("Gather", raw, keep, axis=0), 5, 15, 1), graph.ints(-1, 5, 2))
    bases = graph.add("Unsqueeze", graph.add("Gather", corner, keep, axis=0), graph.ints(1))  # [F, 1, 2]
    steps = graph.add("Unsqueeze", graph.add("Gather", stride, keep, axis=0), graph.ints(1))  # [F, 1, 1]
    graph.add("Add", bases, graph.add("Mul", points, steps), out="landmarks")


def maps_of(network: FacesNetwork, pictures: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
    """The raw maps as PyTorch computes them, for the parity test."""
    with torch.inference_mode():
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
        return [m.numpy() for m in network.eval()(x)]
