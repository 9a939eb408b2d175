"""Start a MobileNet image tower from a quantised .tflite classifier, dequantised, with its batch norms put back.

In such a file the batch norms are folded into the convolutions. Training wants them apart, so each is made anew from
the mean m and variance v that its convolution really puts out on pictures of the task: running statistics (m, v), weight
sqrt(v + eps), bias m + b. The network then computes what the file's network computes, up to padding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ModelError

CONVOLUTIONS = (3, 4)  # BuiltinOperator CONV_2D, DEPTHWISE_CONV_2D


def load_tflite(trunk: nn.Module, path: Path, pixels: Tensor) -> int:
    """Copy the file's convolutions into the timm trunk, in order; returns how many. Raises ModelError if they differ.

    pixels: float [N, 3, S, S] normalised pictures of the task, on which the norms are measured.
    """
    weights = read_convolutions(path)
    layers = [m for m in trunk.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)]
    if len(norms) != len(layers) or len(weights) < len(layers):
        raise ModelError(
            f"{path}: expected {len(layers)} convolutions with a norm each, got {len(weights)}; another network?"
        )
    hooks: list[Any] = []
    for at, (layer, norm) in enumerate(zip(layers, norms, strict=True)):
        kernel, bias = weights[at]
        if tuple(kernel.shape) != tuple(layer.weight.shape):
            got, expected = list(kernel.shape), list(layer.weight.shape)
            raise ModelError(f"{path}: convolution {at}: expected weights {expected}, got {got}; another network?")
        with torch.no_grad():
            layer.weight.copy_(kernel)
        hooks.append(norm.register_forward_pre_hook(_refit(bias)))
    trunk.eval()
    with torch.no_grad():
        trunk(pixels)
    for hook in hooks:
        hook.remove()
    return len(layers)


def _refit(bias: Tensor):
    def set_norm(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean + bias)

    return set_norm


def read_convolutions(path: Path) -> list[tuple[Tensor, Tensor]]:
    """The file's convolutions in order of execution: weights [O, I, H, W] (depthwise [C, 1, H, W]) and biases [O]."""
    import tflite  # brought by the extra train

    try:
        model: Any = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
        graph = model.Subgraphs(0)
    except OSError as error:
        raise ModelError(f"{path}: expected a .tflite file ({error.strerror})") from None
    except Exception as error:  # flatbuffers raises what it happens upon
        raise ModelError(f"{path}: expected a .tflite file, it cannot be read ({error})") from None
    found: list[tuple[Tensor, Tensor]] = []
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if kind not in CONVOLUTIONS:
            continue
        kernel, bias = (_dequantised(model, graph.Tensors(operator.Inputs(at))) for at in (1, 2))
        axes = (0, 3, 1, 2) if kind == CONVOLUTIONS[0] else (3, 0, 1, 2)
        found.append((torch.from_numpy(kernel.transpose(axes).copy()), torch.from_numpy(bias)))
    return found


def _dequantised(model: Any, tensor: Any) -> np.ndarray:
    """float32 in the tensor's own shape: (q - zero point) * scale, per channel where it says so."""
    kinds = {0: np.float32, 2: np.int32, 3: np.uint8, 9: np.int8}
    raw = model.Buffers(tensor.Buffer()).DataAsNumpy()
    values = np.frombuffer(raw.tobytes(), kinds[tensor.Type()]).reshape(tensor.ShapeAsNumpy()).astype(np.float32)
    quantisation = tensor.Quantization()
    if quantisation is None or quantisation.ScaleLength() == 0:
        return values
    scale = quantisation.ScaleAsNumpy().astype(np.float32)
    zero = quantisation.ZeroPointAsNumpy().astype(np.float32)
    if len(scale) > 1:
        shape = [1] * values.ndim
        shape[quantisation.QuantizedDimension()] = len(scale)
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return (values - zero) * scale
