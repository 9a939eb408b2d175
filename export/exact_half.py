"""Store the weights of a float32 graph in half precision without changing any value.

A checkpoint's weights are float16. Folding a batch norm multiplies each output channel by a float32 factor, and float16 cannot
represent the product exactly. So the file stores the float16 weight and the factor, and the graph multiplies them. Runtimes
compute such constants once, when they open the file: arithmetic, outputs and speed equal those of the plain float32 file.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

Floats = npt.NDArray[np.float32]


def fold_factors(module: nn.Module) -> dict[str, Floats]:
    """Return the factor [out channels] of each convolution with a folded batch norm (attention.py), by weight name."""
    found: dict[str, Floats] = {}
    for name, layer in module.named_modules():
        factor = getattr(layer, "fold_factor", None)
        if isinstance(factor, Tensor):
            found[f"{name}.weight"] = factor.numpy()
    return found


def store_half(model: onnx.ModelProto, factors: Mapping[str, Floats]) -> None:
    """Store every float32 weight as float16 if that is exact, either alone or times its factor."""
    added: list[onnx.NodeProto] = []
    for tensor in [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT]:
        name, values = tensor.name, numpy_helper.to_array(tensor)
        factor = factors.get(name)
        shaped = None if factor is None else factor.reshape(-1, *[1] * (values.ndim - 1))
        stored = _as_half(values, shaped)
        if stored is None:
            continue
        whole = name if shaped is None else f"{name}.whole"
        added.append(helper.make_node("Cast", [f"{name}.half"], [whole], f"{name}.cast", to=TensorProto.FLOAT))
        if shaped is not None:
            model.graph.initializer.append(numpy_helper.from_array(shaped, f"{name}.factor"))
            added.append(helper.make_node("Mul", [whole, f"{name}.factor"], [name], f"{name}.times"))
        tensor.CopyFrom(numpy_helper.from_array(stored, f"{name}.half"))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*added, *nodes])


def _as_half(values: Floats, factor: Floats | None) -> npt.NDArray[np.float16] | None:
    """Return `values` as float16 if that is exact, else None."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        stored = (values if factor is None else values / factor).astype(np.float16)
        back = stored.astype(np.float32) * (np.float32(1) if factor is None else factor)
    return stored if np.array_equal(back, values) else None
