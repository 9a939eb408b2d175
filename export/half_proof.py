"""The proof of a half network: the module itself in PyTorch, which rounds at every operation, on real faces, in the task's unit.

A CPU runtime computes a float16 graph in float32 and would prove nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from ..calibration.measure.parity import Difference, ProofFaces, difference, excess, faults, limits_for
from ..calibration.measure.predictor import answers
from ..calibration.widening import Widened, widen
from ..errors import ModelError
from ..runtime.contract.measured import ParityRow
from ..runtime.contract.spec import ModelSpec
from ..runtime.sessions.session import Outputs, SessionFacts
from .frozen import Frozen
from .half import first_not_finite, half_network, product_layers

RANKING_FACES = 16


@dataclass(frozen=True, eq=False)
class ProvenHalf:
    """A half network and its row of the parity table."""

    network: Frozen
    row: ParityRow


def proven_half(
    frozen: Frozen, spec: ModelSpec, proof: ProofFaces, reference: Outputs, limit: float | None, may_widen: bool
) -> tuple[ProvenHalf, Widened]:
    """The half network of `frozen`, run in PyTorch on the proof's faces; raises ModelError naming the layer that breaks it."""
    limits = _limits("fp16", spec, limit)
    wide = Widened((), {})

    def harm(kept: frozenset[str], every: int = 1) -> float:
        got = answers(FrozenSession(half_network(frozen, kept)), proof.crops[::every])
        thin = Outputs(reference.value[::every], reference.probabilities[::every], reference.embedding[::every])
        return excess(difference(got, thin, proof.labels[::every]), limits)

    if may_widen:
        layers, every = product_layers(frozen), max(1, len(proof.labels) // RANKING_FACES)
        with tqdm(total=len(layers), desc="layers", unit="layer", leave=False, disable=None) as bar:
            wide = widen(layers, harm, lambda kept: harm(kept, every), bar.update)
    half = half_network(frozen, wide.kept)
    found = difference(answers(FrozenSession(half), proof.crops), reference, proof.labels)
    try:
        check(found, "fp16", spec, limit)
    except ModelError as error:
        broken = first_not_finite(half, torch.from_numpy(proof.crops))
        where = f"; the first NaN or Inf comes out of {broken}" if broken else ""
        raise ModelError(f"{error}{where}; --widen keeps such layers in float32") from None
    return ProvenHalf(half, found.row(spec.task, proof.said, "PyTorch")), wide


def check(found: Difference, precision: str, spec: ModelSpec, limit: float | None) -> None:
    """Raise ModelError where an artifact misses its limits."""
    missed = faults(found, _limits(precision, spec, limit), spec.task.unit)
    if missed:
        raise ModelError(
            f"{precision} differs from PyTorch by more than it may on {found.n} faces: {', '.join(missed)}; nothing was written"
        )


def _limits(precision: str, spec: ModelSpec, limit: float | None) -> dict[str, float]:
    limits = limits_for(precision, spec.task)
    return limits if limit is None else {next(iter(limits)): limit}


class FrozenSession:
    """A frozen network in PyTorch behind the runtime's session interface."""

    def __init__(self, frozen: Frozen) -> None:
        self.frozen = frozen.eval()
        self.facts = SessionFacts("torch", torch.__version__, "cpu", torch.get_num_threads())

    @torch.inference_mode()
    def run(self, crops: npt.NDArray[np.uint8]) -> Outputs:
        """crops: uint8 [N, S, S, 3] RGB, N >= 1."""
        return Outputs(*(t.numpy() for t in self.frozen(torch.from_numpy(np.ascontiguousarray(crops)))))

    def close(self) -> None:
        """Nothing to give back: the network is the caller's."""
