"""Which layers must stay in a higher precision: each is tried alone, then the shortest prefix that passes is found by bisection.

A layer whose low precision does harm alone is one to widen. Ranked by that harm, the layers to keep are a prefix of the list,
and its length is found with a logarithm of trials. Where harm needs two layers at once the prefix is longer than it
must be, never too short: it is accepted only by a trial of all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import ModelError


@dataclass(frozen=True)
class Widened:
    """The layers that stay in higher precision, and what each layer's low precision does alone."""

    kept: tuple[str, ...]  # worst first
    harm: dict[str, float]  # layer: share of the limit used when only this layer is narrow; worst first


Harm = Callable[[frozenset[str]], float]


def widen(layers: Sequence[str], harm_of: Harm, quick_harm_of: Harm, step: Callable[[], object]) -> Widened:
    """Find the layers to keep wide.

    harm_of(kept): the share of the limit that is used (over 1 fails, inf for NaN) with `kept` wide and the rest narrow.
    quick_harm_of: the same, on few faces: enough to rank. step: called after each of its trials. Raises ModelError where even all layers wide do not pass.
    """
    everything = frozenset(layers)
    if harm_of(everything) > 1:
        raise ModelError(
            "expected the graph to pass with every layer in higher precision, it does not; nothing was written"
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
