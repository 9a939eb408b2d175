"""Check a half-precision network in PyTorch, which rounds after every operation, on real faces, in the task's unit.

A CPU runtime computes a float16 graph in float32, so it would not show the rounding errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tqdm import tqdm

from ..calibration.measure.parity import Difference, ProofFaces, difference, excess, faults, limits_for
from ..calibration.widening import Widened, widen
from ..errors import ModelError
from ..runtime.contract.spec import ModelSpec
from ..runtime.sessions.session import Outputs
from ..train.checkpoint_model import predict
from .frozen import Frozen
from .half import first_not_finite, half_network, product_layers

RANKING_FACES = 16


@dataclass(frozen=True, eq=False)
class ProvenHalf:
    """A half-precision network and its differences from float32 in PyTorch."""

    network: Frozen
    found: Difference


def proven_half(
    frozen: Frozen,
    spec: ModelSpec,
    proof: ProofFaces,
    reference: Outputs,
    max_difference: float | None,
    may_widen: bool,
) -> tuple[ProvenHalf, Widened]:
    """Convert `frozen` to half precision and run it in PyTorch on the faces; raises ModelError that names the failing layer."""
    limits = limits_for("fp16", spec.task, max_difference)
    wide = Widened((), {})

    def harm(kept: frozenset[str], every: int = 1) -> float:
        got = predict(half_network(frozen, kept), spec.task, proof.crops[::every])
        thin = Outputs(reference.value[::every], reference.probabilities[::every], reference.embedding[::every])
        return excess(difference(got, thin, proof.labels[::every]), limits)

    if may_widen:
        layers, every = product_layers(frozen), max(1, len(proof.labels) // RANKING_FACES)
        with tqdm(total=len(layers), desc="layers", unit="layer", leave=False, disable=None) as bar:
            wide = widen(layers, harm, lambda kept: harm(kept, every), bar.update)
    half = half_network(frozen, wide.kept)
    found = difference(predict(half, spec.task, proof.crops), reference, proof.labels)
    missed = faults(found, limits, spec.task.unit)
    if missed:
        broken = first_not_finite(half, torch.from_numpy(proof.crops))
        where = f"; the first NaN or Inf comes out of {broken}" if broken else ""
        raise ModelError(f"{refusal(found, 'fp16', missed)}{where}; --widen keeps such layers in float32")
    return ProvenHalf(half, found), wide


def refusal(found: Difference, precision: str, missed: list[str]) -> str:
    """Return what is wrong with a file that exceeds its limits; the caller adds what to do."""
    return f"{precision} differs from PyTorch by more than allowed on {found.n} faces: {', '.join(missed)}; nothing was written"
