"""Run a network on crops in PyTorch: for validation, for evaluation, and as the reference of an export."""

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
    """Run a network in eval mode on any number of faces, N >= 1; values are clipped to the task's range.

    network: returns value [N], probabilities [N, K] and embedding [N, D]; further outputs are ignored.
    inputs: uint8 [N, S, S, 3] RGB, or whatever input the network takes.
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
    """A PyTorch network with the runtime's session interface."""

    network: Callable[[Tensor], Sequence[Tensor]]
    task: TaskSpec
    device: str = "cpu"

    def run(self, crops: npt.NDArray[np.uint8]) -> Outputs:
        """Run the network on crops, uint8 [N, S, S, 3] RGB, N >= 1."""
        return predict(self.network, self.task, crops, self.device)

    @property
    def facts(self) -> SessionFacts:
        """Return library, version, device and threads."""
        return SessionFacts("torch", torch.__version__, self.device, torch.get_num_threads())

    def close(self) -> None:
        """Do nothing: the network belongs to the caller."""


def open_checkpoint(path: str | Path, device: str = "cpu") -> Model:
    """Open a checkpoint as a Model; raises ModelError with the reason."""
    network, _ = load_checkpoint(Path(path))
    session = TorchSession(network.to(device), network.task.spec, device)
    return Model(checkpoint_spec(network, Path(path).stem), session)


def checkpoint_spec(network: NumCLIP, name: str) -> ModelSpec:
    """Return the part of the model file's spec that the network alone determines."""
    dim = int(network.text_tower.text_projection.shape[1])
    crop = network.task.crop(network.record.image_side)
    return ModelSpec(name, network.task.spec, crop, GraphSpec(dim))
