"""CLIP weights from a file: a .safetensors, a state dict of torch.save, or a TorchScript archive as OpenAI ships them.

Nothing in the file is run but tensors: state dicts are read with weights_only, archives for their state dict alone. A file
that is cut short, damaged or of another architecture is refused with the byte or the tensor where it fails.

Start weights are a .safetensors of their own, which `python -m numclip.research.start_weights` makes from other projects'
files: the trunk of one image tower, whose norms are a gain and an offset of each channel and nothing else. Training wants
norms that follow the pictures, so each is made anew from the mean m and variance v that its convolution puts out on pictures
of the task: running statistics (m, v), weight gain * sqrt(v + eps), bias gain * m + offset. The trunk then computes what the
file's network computes.
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

OPENAI_FACTS = ("input_resolution", "context_length", "vocab_size")  # numbers in OpenAI's archives, beside the weights
ZIP_MAGIC = b"PK\x03\x04"
START_KEY = "numclip-start"  # in the metadata of start weights
# what another project's file is recognised by: the name of its converter in research/start_weights.py
CONVERTERS = {".tflite": "mobilenetv2", ".json": "faceres", ".dat": "dlib"}


@dataclass(frozen=True, eq=False)
class Weights:
    """A state dict, and whether the file is one of OpenAI's, whose networks use QuickGELU."""

    state: dict[str, Tensor]
    openai: bool


@dataclass(frozen=True)
class StartRecord:
    """What start weights say about themselves."""

    model: str
    """The tower that they are for, a name in `train/towers/`."""
    name: str
    """The file that they were converted from."""
    licence: str
    """Its terms, an SPDX identifier first."""


def read_start(path: Path) -> StartRecord | None:
    """The record of start weights; None for any other file, and where there is none."""
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    _check_safetensors(path)
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(START_KEY)
        return None if text is None else from_json(StartRecord, json.loads(text), START_KEY)
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{path}: expected start weights, failed at {error}; convert them again") from None


def refuse_unconverted(pretrained: str) -> None:
    """Raise UsageError, with the command that converts it, where --pretrained names another project's own file."""
    converter = "dlib" if pretrained == "dlib" else CONVERTERS.get(Path(pretrained).suffix)
    if converter is not None:
        file = "" if pretrained == "dlib" else f" {pretrained}"
        raise UsageError(
            f"expected --pretrained with a .safetensors, got {pretrained!r}; convert it in a checkout of numclip: "
            f"python -m numclip.research.start_weights {converter}{file} --out start.safetensors"
        )


def fill_trunk(trunk: nn.Module, path: Path, start: StartRecord, name: str, pixels: Tensor) -> None:
    """Put start weights into the trunk of the image tower `name`, its norms measured on pictures of the task.

    pixels: float [N, 3, S, S] normalised. Raises ModelError where the file is for another tower.
    """
    if start.model != name:
        raise ModelError(f"{path}: expected start weights for {name}, they are for {start.model}; choose that --model")
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
    """Let a norm that is a gain and an offset compute the same from statistics of what comes in."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False)
    gain, offset = norm.weight.clone(), norm.bias.clone()
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_(gain * (variance + norm.eps).sqrt())
    norm.bias.copy_(gain * mean + offset)


def read_weights(path: Path) -> Weights:
    """The tensors of a file, on the CPU; raises ModelError saying which byte or record is wrong."""
    with path.open("rb") as file:
        start = file.read(8)
    if path.suffix == ".safetensors":
        _check_safetensors(path)
        return _weights(safetensors.torch.load_file(path))
    if start[:4] == ZIP_MAGIC and _is_torchscript(path):
        try:
            return _weights(torch.jit.load(str(path), map_location="cpu").state_dict())
        except RuntimeError as error:
            raise ModelError(f"{path}: expected a TorchScript archive, {_first_line(error)}") from None
    try:
        return _weights(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises what it happens upon: pickle, EOF, runtime errors
        raise ModelError(
            f"{path}: expected weights (.safetensors, a state dict, a TorchScript archive) in {path.stat().st_size} bytes, "
            f"{_first_line(error)}"
        ) from None


def fill(clip: nn.Module, weights: Weights, path: Path, name: str) -> None:
    """Put a file's weights into the open_clip model `name`; raises ModelError naming the first tensor that does not fit.

    Positions of another crop side are interpolated.
    """
    network = cast(Any, clip)  # open_clip says less of its functions' arguments than they take
    state: dict[str, Tensor] = dict(open_clip.convert.convert_state_dict(network, dict(weights.state)))
    if "positional_embedding" in state and not hasattr(network, "positional_embedding"):
        state = open_clip.model.convert_to_custom_text_state_dict(state)
    expected: dict[str, Tensor] = network.state_dict()
    if "logit_scale" in state:
        state["logit_scale"] = state["logit_scale"].reshape(expected["logit_scale"].shape)
    advice = "choose the --model that the file was made for"
    for tensor in expected:
        if tensor not in state:
            raise ModelError(f"{path}: expected the weights of {name}, it has no tensor {tensor}; {advice}")
    _check_shapes({n: t for n, t in state.items() if "positional_embedding" not in n}, expected, f"{path}", name)
    open_clip.model.resize_pos_embed(state, network)
    open_clip.model.resize_text_pos_embed(state, network)
    _check_shapes(state, expected, f"{path}", name)
    network.load_state_dict(state)


def _check_shapes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str, name: str) -> None:
    advice = "choose the --model that the file was made for"
    for tensor, value in state.items():
        if tensor not in expected:
            raise ModelError(f"{where}: expected the weights of {name}, which has no tensor {tensor}; {advice}")
        want, got = list(expected[tensor].shape), list(value.shape)
        if want != got:
            raise ModelError(f"{where}: tensor {tensor}: expected {want} as {name} has it, got {got}; {advice}")


def _weights(content: object) -> Weights:
    """The state dict inside of what a file holds, without a training's wrapping."""
    for key in ("state_dict", "model"):
        inner = cast(Mapping[str, object], content).get(key) if isinstance(content, Mapping) else None
        content = cast(object, inner) if isinstance(inner, Mapping) else content
    named = cast(Mapping[object, object], content) if isinstance(content, Mapping) else None
    if named is None or not all(isinstance(t, Tensor) for t in named.values()):
        raise ModelError(f"expected a state dict of tensors, got {type(content).__name__}")
    state = {str(name).removeprefix("module."): t for name, t in named.items() if isinstance(t, Tensor)}
    openai = all(name in state for name in OPENAI_FACTS)
    return Weights({n: t for n, t in state.items() if n not in OPENAI_FACTS}, openai)


def _check_safetensors(path: Path) -> None:
    """Raise ModelError if the file ends before its header, or before a tensor that the header promises."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 + length or length < 2:
            raise ModelError(f"{path}: expected a .safetensors, its header should end at byte {8 + length} of {size}")
        try:
            header: dict[str, dict[str, list[int]]] = json.loads(file.read(length))
        except ValueError:
            raise ModelError(f"{path}: expected a .safetensors, bytes 8 to {8 + length} are no header") from None
    ends = {name: 8 + length + entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"}
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        if end > size:
            raise ModelError(
                f"{path}: cut short: tensor {name} should end at byte {end}, the file has {size}; get it again"
            )


def _is_torchscript(path: Path) -> bool:
    """Whether a zip holds code beside its tensors; raises ModelError for a damaged zip, naming record and byte."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            damaged = archive.testzip()
            if damaged is not None:
                at = archive.getinfo(damaged).header_offset
                raise ModelError(f"{path}: damaged: the record {damaged} at byte {at} fails its check; get it again")
    except zipfile.BadZipFile:
        size = path.stat().st_size
        raise ModelError(
            f"{path}: cut short: its directory should follow byte {size}, where it ends; get it again"
        ) from None
    return any(name.endswith("/constants.pkl") for name in names)


def _first_line(error: Exception) -> str:
    return f"it cannot be read ({(str(error) or type(error).__name__).strip().splitlines()[0][:200]})"
