"""Find the layers that must stay in a higher precision: try each by itself, then find the shortest passing prefix by bisection.

Layers are ranked by the error that their low precision causes by itself. The layers to keep are a prefix of that list, whose
length takes a logarithmic number of trials. If errors need two layers at once, the prefix may be longer than necessary, but
never too short: it is accepted only after a trial of the whole prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import ModelError


@dataclass(frozen=True)
class Widened:
    """The layers that stay in higher precision, and the error of each layer by itself."""

    kept: tuple[str, ...]  # worst first
    harm: dict[str, float]  # layer: share of the limit used if only this layer is in low precision; worst first


Harm = Callable[[frozenset[str]], float]


def widen(layers: Sequence[str], harm_of: Harm, quick_harm_of: Harm, step: Callable[[], object]) -> Widened:
    """Find the layers to keep in higher precision.

    harm_of(kept): the used share of the limit (over 1 fails, inf for NaN) with `kept` in high precision and the rest in low.
    quick_harm_of: the same on few faces, enough to rank. step: called after each trial. Raises ModelError if it fails even with
    all layers in high precision.
    """
    everything = frozenset(layers)
    if (harm := harm_of(everything)) > 1:
        raise ModelError(
            f"even with every layer in higher precision, the differences are {harm:.3g} times the largest allowed, so nothing "
            "was written; use the float32 file"
        )
    if harm_of(frozenset()) <= 1:
        return Widened((), {})
    alone: dict[str, float] = {}
    for layer in layers:
        alone[layer] = quick_harm_of(everything - {layer})
        step()
    ranked = sorted(alone, key=lambda layer: -alone[layer])
    low, high = 0, len(ranked)  # keeping `low` fails, keeping `high` passes
    while high - low > 1:
        middle = (low + high) // 2
        if harm_of(frozenset(ranked[:middle])) <= 1:
            high = middle
        else:
            low = middle
    return Widened(tuple(ranked[:high]), {layer: alone[layer] for layer in ranked})
