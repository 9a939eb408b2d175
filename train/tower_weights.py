"""CLIP weights from a file: a .safetensors, a state dict of torch.save, or a TorchScript archive as OpenAI ships them.

No code in the file is run: state dicts are read with weights_only, and of an archive only the state dict is used. A file
that is truncated, damaged or of another architecture is an error that names the byte or tensor.

Start weights are a .safetensors file that `python -m numclip.research.start_weights` makes from other projects' files. It holds
the trunk of one image tower, whose norms are only a gain and an offset per channel. Training needs full batch norms, so each is
rebuilt from the mean m and the variance v of its input on pictures of the task: running statistics (m, v), weight
gain * sqrt(v + eps), bias gain * m + offset. The trunk then computes the same function as the file's network.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from . import torchvision_gap  # noqa: F401  # pyright: ignore[reportUnusedImport]  (before open_clip)

import open_clip.convert  # isort: skip
import open_clip.model  # isort: skip
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import ModelError, UsageError
from .records import from_json

OPENAI_FACTS = ("input_resolution", "context_length", "vocab_size")  # numbers in OpenAI's archives that are not weights
ZIP_MAGIC = b"PK\x03\x04"
ADVICE = "download the file again, or give a file of CLIP weights"
START_KEY = "numclip-start"  # in the metadata of start weights
# suffix of another project's file: name of its converter in research/start_weights.py
CONVERTERS = {".tflite": "mobilenetv2", ".json": "faceres", ".dat": "dlib"}


@dataclass(frozen=True, eq=False)
class Weights:
    """A state dict, and whether the file is one of OpenAI's, whose networks use QuickGELU."""

    state: dict[str, Tensor]
    openai: bool


@dataclass(frozen=True)
class StartRecord:
    """Metadata of start weights."""

    model: str
    """The tower that they fit, a name in `train/towers/`."""
    name: str
    """The file that they were converted from."""
    licence: str
    """Its licence, an SPDX identifier; in older files a sentence."""
    note: str = ""
    """Where it comes from, and what the licence does not cover, for people."""


def read_start(path: Path) -> StartRecord | None:
    """Read the record of start weights; None for any other file and for a missing file."""
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    _check_safetensors(path)
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(START_KEY)
        return None if text is None else from_json(StartRecord, json.loads(text), START_KEY)
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{path}: expected start weights, got an error: {error}; convert them again") from None


def refuse_unconverted(pretrained: str) -> None:
    """Raise UsageError, with the conversion command, if --pretrained names an unconverted file of another project."""
    converter = "dlib" if pretrained == "dlib" else CONVERTERS.get(Path(pretrained).suffix)
    if converter is not None:
        file = "" if pretrained == "dlib" else f" {pretrained}"
        raise UsageError(
            f"expected --pretrained with a .safetensors file, got {pretrained!r}; convert it in a checkout of numclip with: "
            f"python -m numclip.research.start_weights {converter}{file} --out start.safetensors"
        )


def fill_trunk(trunk: nn.Module, path: Path, start: StartRecord, name: str, pixels: Tensor) -> None:
    """Load start weights into the trunk of the image tower `name`; its batch norms get the statistics of pictures of the task.

    pixels: float [N, 3, S, S] normalised. Raises ModelError if the file is for another tower.
    """
    if start.model != name:
        raise ModelError(
            f"{path}: expected start weights for {name}, got those for {start.model}; choose --model {start.model}"
        )
    state = safetensors.torch.load_file(path)
    _check_shapes(state, trunk.state_dict(), f"{path}", name)
    trunk.load_state_dict(state)
    norms = [m for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(_settle) for norm in norms]
    trunk.eval()
    with torch.no_grad():
        trunk(pixels)
    for hook in hooks:
        hook.remove()


def _settle(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Turn a norm that is only a gain and an offset into a batch norm with the statistics of its input; its output stays the same."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False)
    gain, offset = norm.weight.clone(), norm.bias.clone()
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_(gain * (variance + norm.eps).sqrt())
    norm.bias.copy_(gain * mean + offset)


def read_weights(path: Path) -> Weights:
    """Read the tensors of a file to the CPU; raises ModelError that names the wrong byte or record."""
    with path.open("rb") as file:
        start = file.read(8)
    if path.suffix == ".safetensors":
        _check_safetensors(path)
        return _weights(safetensors.torch.load_file(path), path)
    if start[:4] == ZIP_MAGIC and _is_torchscript(path):
        try:
            return _weights(torch.jit.load(str(path), map_location="cpu").state_dict(), path)
        except RuntimeError as error:
            raise ModelError(f"{path}: expected a TorchScript archive, but {_first_line(error)}; {ADVICE}") from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types: pickle, EOF and runtime errors
        raise ModelError(
            f"{path}: expected weights (.safetensors, a state dict or a TorchScript archive), got {path.stat().st_size} bytes: "
            f"{_first_line(error)}; {ADVICE}"
        ) from None
    return _weights(content, path)


def fill(clip: nn.Module, weights: Weights, path: Path, name: str) -> None:
    """Load a file's weights into the open_clip model `name`; raises ModelError that names the first tensor that does not fit.

    Position embeddings for another crop side are interpolated.
    """
    network = cast(Any, clip)  # open_clip's annotations are narrower than what its functions accept
    state: dict[str, Tensor] = dict(open_clip.convert.convert_state_dict(network, dict(weights.state)))
    if "positional_embedding" in state and not hasattr(network, "positional_embedding"):
        state = open_clip.model.convert_to_custom_text_state_dict(state)
    expected: dict[str, Tensor] = network.state_dict()
    if "logit_scale" in state:
        state["logit_scale"] = state["logit_scale"].reshape(expected["logit_scale"].shape)
    advice = "choose the --model that the file was made for"
    for tensor in expected:
        if tensor not in state:
            raise ModelError(f"{path}: expected the weights of {name}, but the file has no tensor {tensor}; {advice}")
    _check_shapes({n: t for n, t in state.items() if "positional_embedding" not in n}, expected, f"{path}", name)
    open_clip.model.resize_pos_embed(state, network)
    open_clip.model.resize_text_pos_embed(state, network)
    _check_shapes(state, expected, f"{path}", name)
    network.load_state_dict(state)


def _check_shapes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str, name: str) -> None:
    advice = "choose the --model that the file was made for"
    for tensor, value in state.items():
        if tensor not in expected:
            raise ModelError(
                f"{where}: expected the weights of {name}, got a tensor {tensor}, which {name} does not have; {advice}"
            )
        want, got = list(expected[tensor].shape), list(value.shape)
        if want != got:
            raise ModelError(f"{where}: tensor {tensor}: expected shape {want} as in {name}, got {got}; {advice}")


def _weights(content: object, path: Path) -> Weights:
    """Return the state dict in a file's content, without the keys that a training adds around it."""
    for key in ("state_dict", "model"):
        inner = cast(Mapping[str, object], content).get(key) if isinstance(content, Mapping) else None
        content = cast(object, inner) if isinstance(inner, Mapping) else content
    named = cast(Mapping[object, object], content) if isinstance(content, Mapping) else None
    if named is None or not all(isinstance(t, Tensor) for t in named.values()):
        raise ModelError(
            f"{path}: expected a state dict of tensors, got {type(content).__name__}; give a file of CLIP weights"
        )
    state = {str(name).removeprefix("module."): t for name, t in named.items() if isinstance(t, Tensor)}
    openai = all(name in state for name in OPENAI_FACTS)
    return Weights({n: t for n, t in state.items() if n not in OPENAI_FACTS}, openai)


def _check_safetensors(path: Path) -> None:
    """Raise ModelError if the file ends within its header or before the end of a tensor."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 + length or length < 2:
            raise ModelError(
                f"{path}: expected a complete .safetensors file, but its header should end at byte {8 + length} and the file has {size}; download it again"
            )
        try:
            header: dict[str, dict[str, list[int]]] = json.loads(file.read(length))
        except ValueError:
            raise ModelError(
                f"{path}: expected a .safetensors file, but bytes 8 to {8 + length} are not its JSON header; download it again"
            ) from None
    ends = {name: 8 + length + entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"}
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        if end > size:
            raise ModelError(
                f"{path}: truncated: tensor {name} should end at byte {end}, but the file has {size}; download it again"
            )


def _is_torchscript(path: Path) -> bool:
    """Return whether a zip is a TorchScript archive; raises ModelError, with record and byte, for a damaged zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            damaged = archive.testzip()
            if damaged is not None:
                at = archive.getinfo(damaged).header_offset
                raise ModelError(
                    f"{path}: damaged: the record {damaged} at byte {at} has a wrong checksum; download it again"
                )
    except zipfile.BadZipFile:
        size = path.stat().st_size
        raise ModelError(
            f"{path}: truncated: the zip directory is missing, the file ends at byte {size}; download it again"
        ) from None
    return any(name.endswith("/constants.pkl") for name in names)


def _first_line(error: Exception) -> str:
    return f"it cannot be read ({(str(error) or type(error).__name__).strip().splitlines()[0][:200]})"
