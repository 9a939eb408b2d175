"""A checkpoint run as a model in PyTorch: for evaluating before an export, and as the reference of every export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..runtime.contract.spec import GraphSpec, ModelSpec
from ..runtime.sessions.model import Model
from ..runtime.sessions.session import Outputs, SessionFacts
from .checkpoint import load_checkpoint
from .network import NumCLIP


class TorchSession:
    """The training network, text tower included, behind the runtime's session interface."""

    def __init__(self, network: NumCLIP, device: str = "cpu") -> None:
        self.facts = SessionFacts("torch", torch.__version__, device, torch.get_num_threads())
        self.network = network.eval().to(device)

    @torch.inference_mode()
    def run(self, crops: npt.NDArray[np.uint8]) -> Outputs:
        """crops: uint8 [N, S, S, 3] RGB, N >= 1."""
        outputs = self.network(torch.from_numpy(np.array(crops)).to(self.facts.device))
        task = self.network.task.spec
        value = outputs.value.clamp(task.low, task.high)
        arrays = [t.float().cpu().numpy() for t in (value, outputs.probabilities, outputs.embedding)]
        return Outputs(*arrays)

    def close(self) -> None:
        """Nothing to give back: the network is the caller's."""


def open_checkpoint(path: str | Path, device: str = "cpu") -> Model:
    """A checkpoint as a Model; raises ModelError saying what is wrong."""
    network, _ = load_checkpoint(Path(path))
    return Model(checkpoint_spec(network, Path(path).stem), TorchSession(network, device))


def checkpoint_spec(network: NumCLIP, name: str) -> ModelSpec:
    """What a network alone determines of its model file's spec."""
    side = int(network.record["image_side"])
    dim = int(network.text_tower.text_projection.shape[1])
    return ModelSpec(name, network.task.spec, network.task.crop(side), GraphSpec(dim))
