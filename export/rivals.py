"""What a model file is measured against: the same network in PyTorch, its bare image tower, and plain CLIP zero-shot.

A rival is named KIND:TOWER, as in `eager:nano` or `clip:ViT-B-16`. Its weights are random, which changes no time, and
its report says so. KIND is one of

    eager, compiled   the frozen NumCLIP in PyTorch, as it is or through torch.compile
    eager-tower       its image tower alone, on pixels made ready in the same way: what the head costs is the difference
    onnx, onnx-tower  the same two in ONNX Runtime
    clip              plain CLIP zero-shot over the task's words, the text tower run for every call
    clip-cached       the same with the text embeddings computed once
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ..errors import UsageError
from ..train.network import Method, NumCLIP
from ..train.prompts import Prompt
from ..train.tasks_file import load_task
from ..train.towers import build_towers, input_side
from .frozen import Frozen
from .to_onnx import OPSET

KINDS = ("eager", "compiled", "eager-tower", "onnx", "onnx-tower", "clip", "clip-cached")
CONTEXT_TOKENS, CLIP_CONTEXT = 5, 77


class Tower(nn.Module):
    """The image tower alone, with the model file's own pixels in."""

    gain: Tensor
    bias: Tensor

    def __init__(self, frozen: Frozen) -> None:
        super().__init__()
        self.image_tower = frozen.image_tower
        self.register_buffer("gain", frozen.gain)
        self.register_buffer("bias", frozen.bias)

    def forward(self, crops: Tensor) -> Tensor:
        """uint8 [N, S, S, 3] RGB to features [N, D]."""
        return self.image_tower(crops.permute(0, 3, 1, 2).float() * self.gain + self.bias)


class ZeroShot(nn.Module):
    """Plain CLIP: cosine of image and K sentences of 77 tokens, softmax, expectation over the bin centers."""

    sentences: Tensor
    end: Tensor
    centers: Tensor

    def __init__(self, network: NumCLIP, cached: bool) -> None:
        super().__init__()
        self.tower, self.text_tower = Tower(Frozen(network)), network.text_tower
        bins, width = network.task.spec.num_bins, network.prompt.words.shape[1]
        self.register_buffer("sentences", torch.randn(bins, CLIP_CONTEXT, width))
        self.register_buffer("end", torch.full((bins,), CONTEXT_TOKENS + 4))
        self.register_buffer("centers", torch.tensor(network.task.spec.bin_centers))
        self.scale = network.logit_scale.detach().exp()
        self.texts = self.encode() if cached else None

    def encode(self) -> Tensor:
        """[K, D] L2-normalised."""
        with torch.no_grad():
            return functional.normalize(self.text_tower(self.sentences, self.end), dim=1)

    def forward(self, crops: Tensor) -> Tensor:
        """uint8 [N, S, S, 3] RGB to ages [N]."""
        texts = self.encode() if self.texts is None else self.texts
        images = functional.normalize(self.tower(crops), dim=1)
        return torch.softmax(self.scale * images @ texts.T, dim=1) @ self.centers


class Rival:
    """A call on crops, and the facts that a report needs."""

    multiply_adds: int | None = None  # per face; None where a call has work that no face brings

    def __init__(self, side: int, call: Callable[[npt.NDArray[np.uint8]], object], session: dict[str, Any]) -> None:
        self.side, self.call, self.session = side, call, session

    def __call__(self, crops: npt.NDArray[np.uint8]) -> object:
        return self.call(crops)


def open_rival(name: str, threads: int) -> Rival:
    """A rival by name, on the CPU; raises UsageError for a name that is none."""
    kind, _, tower = name.partition(":")
    if kind not in KINDS or not tower:
        raise UsageError(f"expected --rivals KIND:TOWER with KIND {', '.join(KINDS)}, got {name!r}")
    network = random_network(tower)
    side = input_side(tower)
    if kind in ("clip", "clip-cached"):
        module: nn.Module = ZeroShot(network, cached=kind == "clip-cached")
    else:
        module = Frozen(network)
        module = Tower(module) if kind.endswith("-tower") else module
    module.eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    if kind.startswith("onnx"):
        rival = _in_onnxruntime(module, side, threads)
    else:
        rival = _in_torch(module, side, threads, compiled=kind == "compiled")
    rival.multiply_adds = None if kind == "clip" else counter.get_total_flops() // 2
    return rival


def random_network(tower: str) -> NumCLIP:
    """A NumCLIP for ages with random weights."""
    torch.manual_seed(0)
    task, side = load_task("age"), input_side(tower)
    towers = build_towers(tower, None, torch.zeros(1, side, side, 3, dtype=torch.uint8))
    width = towers.token_embedding.weight.shape[1]
    return NumCLIP(task, towers, Prompt(CLIP_CONTEXT, [1] * task.spec.num_bins, CONTEXT_TOKENS, width), Method()).eval()


def _in_torch(module: nn.Module, side: int, threads: int, compiled: bool) -> Rival:
    run: Any = torch.compile(module, dynamic=False) if compiled else module

    @torch.inference_mode()
    def call(crops: npt.NDArray[np.uint8]) -> object:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return run(torch.from_numpy(crops))

    return Rival(side, call, {"library": "torch", "version": torch.__version__, "device": "cpu", "threads": threads})


def _in_onnxruntime(module: nn.Module, side: int, threads: int) -> Rival:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        path = Path(folder) / "rival.onnx"
        program: Any = torch.onnx.export(
            module,
            (torch.zeros(2, side, side, 3, dtype=torch.uint8),),
            input_names=["crops"],
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("faces", min=1, max=4096)},),
            dynamo=True,
            verbose=False,
        )
        program.save(str(path), external_data=False)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    facts = {"library": "onnxruntime", "version": onnxruntime.__version__, "device": "cpu", "threads": threads}
    return Rival(side, lambda crops: session.run(None, {"crops": crops}), facts)
