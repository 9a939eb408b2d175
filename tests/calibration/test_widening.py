"""The search for layers to keep in float ranks them by the effect of each layer alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numclip.calibration.widening import widen
from numclip.errors import ModelError

LAYERS = [f"layer{i}" for i in range(20)]


def nothing() -> None:
    pass


@given(st.lists(st.floats(0, 3), min_size=20, max_size=20))
def test_the_shortest_prefix_of_the_worst(harms: list[float]) -> None:
    """If the effects of layers add up, the search keeps the worst layers, as few as possible, and the result passes."""
    of = dict(zip(LAYERS, harms))

    def harm(kept: frozenset[str]) -> float:
        return sum(h for layer, h in of.items() if layer not in kept)

    kept = widen(LAYERS, harm, harm, nothing).kept
    assert harm(frozenset(kept)) <= 1
    assert not kept or harm(frozenset(kept[:-1])) > 1
    assert min((of[k] for k in kept), default=9) >= max(h for layer, h in of.items() if layer not in kept) or not kept


def test_a_pair_that_overflows_together() -> None:
    """If a large value passes from one layer to the next, exactly these two are kept."""

    def harm(kept: frozenset[str]) -> float:
        return 0.1 if {"layer7", "layer8"} <= kept else float("inf")

    assert set(widen(LAYERS, harm, harm, nothing).kept) == {"layer7", "layer8"}


def test_nothing_is_kept_where_all_narrow_passes() -> None:
    """If the graph passes unchanged, no layer is kept and none is tried."""
    tried: list[frozenset[str]] = []

    def harm(kept: frozenset[str]) -> float:
        tried.append(kept)
        return 0.5

    assert widen(LAYERS, harm, harm, nothing).kept == () and len(tried) == 2


def test_what_no_layer_can_save_is_refused() -> None:
    """If the graph fails even with every layer kept, the error says that the cause lies elsewhere."""
    with pytest.raises(ModelError, match="every layer in higher precision"):
        widen(LAYERS, lambda kept: 2.0, lambda kept: 2.0, nothing)
