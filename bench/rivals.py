"""Implementations to compare a model file with: the same network in PyTorch, its bare image tower, and plain CLIP zero-shot.

They are named KIND:TOWER, such as `eager:nano` or `clip:ViT-B-16`. Their weights are random, which does not affect times, and the
report says so. KIND is one of

    eager, compiled   the exported NumCLIP in PyTorch, directly or through torch.compile
    eager-tower       its image tower alone, with the same preprocessing: the difference is the cost of the head
    onnx, onnx-tower  the same two in ONNX Runtime
    clip              plain CLIP zero-shot over the task's words, running the text tower in every call
    clip-cached       the same with the text embeddings computed once

`mobilenet-025` has no tower to name: it is MobileNetV1 (arXiv 1704.04861) at a quarter of its width in ONNX Runtime, the size
of the smallest age models in use. `random:TOWER` is this project's own export of such a network in its own sessions, so it
runs on any device; `random-int8:TOWER` is the same in INT8, in the flavour for the device.
"""

from __future__ import annotations

import atexit
import copy
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..calibration.int8_graph import make_plan, quantized
from ..errors import DeviceError, UsageError
from ..export.frozen import Frozen
from ..export.to_onnx import OPSET, size_of, to_onnx
from ..runtime.contract.model_file import read_spec, write_spec
from ..runtime.places import write_whole
from ..runtime.sessions.choice import probe_crops
from ..runtime.sessions.model import load
from ..train.checkpoint_model import checkpoint_spec
from ..train.towers import input_side
from .rival_networks import MobileNet, Tower, ZeroShot, random_network

KINDS = ("eager", "compiled", "eager-tower", "onnx", "onnx-tower", "clip", "clip-cached", "random", "random-int8")


@dataclass(frozen=True, eq=False)
class Rival:
    """The facts for the report, and a function that opens it and returns the call on crops uint8 [N, S, S, 3]."""

    side: int
    multiply_adds: int | None  # per face; None if a call has work that does not depend on faces
    weight_bytes: int
    device: str  # as requested
    session: dict[str, object]
    open: Callable[[], Callable[[npt.NDArray[np.uint8]], object]]


def open_rival(name: str, threads: int, device: str = "cpu") -> Rival:
    """Open another implementation by name, on CUDA if `device` is cuda or tensorrt, else on the CPU; raises UsageError for an
    invalid name, DeviceError without a GPU.
    """
    kind, _, tower = name.partition(":")
    if name != "mobilenet-025" and (kind not in KINDS or not tower):
        raise UsageError(f"expected KIND:TOWER with a KIND among {', '.join(KINDS)}, or mobilenet-025, got {name!r}")
    if kind == "random":
        return _in_session(random_model(tower), device, threads)
    if kind == "random-int8":
        return _in_session(
            random_int8_model(tower, "cpu" if device in ("cpu", "auto") else "tensorrt"), device, threads
        )
    on = "cuda" if device in ("cuda", "tensorrt") else "cpu"
    if on == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"device cuda: {name} needs a GPU, but PyTorch {torch.__version__} finds none; use --device cpu"
        )
    module, side = _module(name)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    if kind.startswith("onnx") or name == "mobilenet-025":
        _exported(name)  # once, outside the timed load
    in_torch = kind in ("eager", "compiled", "eager-tower", "clip", "clip-cached")
    library, version = ("torch", torch.__version__) if in_torch else ("onnxruntime", onnxruntime.__version__)
    return Rival(
        side,
        None if kind == "clip" else counter.get_total_flops() // 2,
        sum(p.numel() * p.element_size() for p in _read_at_each_call(module)),
        on,
        {"library": library, "version": version, "device": on, "threads": threads},
        partial(_in_torch, module, on, threads, kind == "compiled")
        if in_torch
        else partial(_in_ort, name, on, threads),
    )


@cache
def _module(name: str) -> tuple[nn.Module, int]:
    """The network of a name, and the side of its crops in px."""
    kind, _, tower = name.partition(":")
    if name == "mobilenet-025":
        return MobileNet().eval(), 112
    network = random_network(tower)
    if kind in ("clip", "clip-cached"):
        return ZeroShot(network, cached=kind == "clip-cached").eval(), input_side(tower)
    frozen = Frozen(network)
    return (Tower(frozen) if kind.endswith("-tower") else frozen).eval(), input_side(tower)


def _read_at_each_call(module: nn.Module) -> Iterator[Tensor]:
    """The weights that a call needs: for cached zero-shot all except the text tower's."""
    cached = isinstance(module, ZeroShot) and module.texts is not None
    return (p for name, p in module.named_parameters() if not (cached and name.startswith("text_tower")))


@cache
def random_model(tower: str) -> Path:
    """A model file of a NumCLIP for ages with random weights, in a folder that is deleted with this process."""
    network, out = random_network(tower), _folder() / f"random-{tower}.onnx"
    spec, frozen = checkpoint_spec(network, out.stem), Frozen(network).eval()
    out.write_bytes(to_onnx(frozen, spec.crop.side).SerializeToString())
    write_spec(out, replace(spec, graph=replace(spec.graph, **size_of(frozen, spec.crop.side))))
    return out


@cache
def random_int8_model(tower: str, flavour: str) -> Path:
    """The same in INT8, with ranges from synthetic pictures; its outputs are as meaningless as its weights."""
    whole = random_model(tower)
    spec, out = read_spec(whole), whole.with_name(f"{whole.stem}.int8-{flavour}.onnx")
    plan = make_plan(whole, spec, probe_crops(spec.crop.side, 8), flavour, "minmax")
    write_whole(out, quantized(plan, frozenset()).SerializeToString())
    write_spec(out, replace(spec, name=out.stem, graph=replace(spec.graph, precision="int8", flavour=flavour)))
    return out


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="numclip-random-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _in_session(path: Path, device: str, threads: int) -> Rival:
    model = load(path, device, threads)
    multiply_adds, size = model.spec.graph.multiply_adds or 0, path.stat().st_size
    facts = asdict(model.session.facts)
    return Rival(
        model.spec.crop.side, multiply_adds, size, device, facts, lambda: load(path, device, threads).session.run
    )


def _in_torch(
    module: nn.Module, device: str, threads: int, compiled: bool
) -> Callable[[npt.NDArray[np.uint8]], object]:
    module = copy.deepcopy(module).to(device)  # new memory at each opening
    run = torch.compile(module, dynamic=False) if compiled else module

    @torch.inference_mode()
    def call(crops: npt.NDArray[np.uint8]) -> object:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        answer = run(torch.from_numpy(crops).to(device))
        if device == "cuda":
            torch.cuda.synchronize()
        return answer

    return call


def _in_ort(name: str, device: str, threads: int) -> Callable[[npt.NDArray[np.uint8]], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
    session = onnxruntime.InferenceSession(_exported(name), options, providers=[provider])
    return lambda crops: session.run(None, {"crops": crops})


@cache
def _exported(name: str) -> bytes:
    """The network exported to ONNX."""
    module, side = _module(name)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        path = Path(folder) / "rival.onnx"
        program = torch.onnx.export(
            module,
            (torch.zeros(2, side, side, 3, dtype=torch.uint8),),
            input_names=["crops"],
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("faces", min=1, max=4096)},),
            dynamo=True,
            verbose=False,
        )
        assert program is not None  # with dynamo=True it is a program
        program.save(str(path), external_data=False)
        return path.read_bytes()
