"""The one predictor: a network run on crops in PyTorch, for choosing an epoch, for evaluating, as the reference of an export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..runtime.contract.spec import GraphSpec, ModelSpec, TaskSpec
from ..runtime.sessions.model import Model
from ..runtime.sessions.session import Outputs, SessionFacts
from .batches import Rows
from .checkpoint import load_checkpoint
from .network import NumCLIP

BATCH = 128  # faces at a time


@torch.inference_mode()
def predict(
    network: Callable[[Tensor], Sequence[Tensor]],
    task: TaskSpec,
    inputs: Rows | Tensor,
    device: torch.device | str = "cpu",
) -> Outputs:
    """What a network in eval mode says of any number of faces, N >= 1; values clipped to the task's range.

    network: puts out value [N], probabilities [N, K] and embedding [N, D], and perhaps more.
    inputs: uint8 [N, S, S, 3] RGB, or what the network reads instead.
    """
    parts: list[list[npt.NDArray[np.float32]]] = []
    for start in range(0, len(inputs), BATCH):
        part = inputs[start : start + BATCH]
        given = part if isinstance(part, Tensor) else torch.from_numpy(np.array(part))
        value, probabilities, embedding, *_ = network(given.to(device))
        answered = value.clamp(task.low, task.high), probabilities, embedding
        parts.append([t.float().cpu().numpy() for t in answered])
    return Outputs(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


@dataclass(eq=False)
class TorchSession:
    """A network in PyTorch behind the runtime's session interface."""

    network: Callable[[Tensor], Sequence[Tensor]]
    task: TaskSpec
    device: str = "cpu"

    def run(self, crops: npt.NDArray[np.uint8]) -> Outputs:
        """crops: uint8 [N, S, S, 3] RGB, N >= 1."""
        return predict(self.network, self.task, crops, self.device)

    @property
    def facts(self) -> SessionFacts:
        """Library, version, device and threads."""
        return SessionFacts("torch", torch.__version__, self.device, torch.get_num_threads())

    def close(self) -> None:
        """Nothing to give back: the network is the caller's."""


def open_checkpoint(path: str | Path, device: str = "cpu") -> Model:
    """A checkpoint as a Model; raises ModelError saying what is wrong."""
    network, _ = load_checkpoint(Path(path))
    session = TorchSession(network.to(device), network.task.spec, device)
    return Model(checkpoint_spec(network, Path(path).stem), session)


def checkpoint_spec(network: NumCLIP, name: str) -> ModelSpec:
    """What a network alone determines of its model file's spec."""
    dim = int(network.text_tower.text_projection.shape[1])
    crop = network.task.crop(network.record.image_side)
    return ModelSpec(name, network.task.spec, crop, GraphSpec(dim))
