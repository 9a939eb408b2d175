"""The choice of faces to look at: new ones first, within the time budget, fairly over sources."""

from __future__ import annotations

import numpy as np
import pytest

from numclip.runtime.live.look_budget import RESTING_S, SPACING_S, Attention, LookBudget


def test_the_order_of_wishes() -> None:
    """Urgency: no look yet > few looks > many looks; a face just looked at gets none, unless it is seen better."""
    now = 10.0
    new = Attention(0, -1.0, 1.0)
    little, well = Attention(2, now - 2 * SPACING_S, 1.0), Attention(50, now - 2 * RESTING_S, 1.0)
    assert new.urgency(0.5, now, True) > little.urgency(1.0, now, True) > well.urgency(1.0, now, True) > 0
    just = Attention(5, now - SPACING_S / 2, best_view=0.5)
    assert just.urgency(0.5, now, True) == 0 < just.urgency(0.7, now, True)
    assert new.urgency(0.5, now, False) > 0 == little.urgency(1.0, now, False), (
        "between detections only new faces get looks"
    )


def test_no_bound_takes_all() -> None:
    """With an infinite budget every face with urgency above 0 is chosen, and no other."""
    assert LookBudget(float("inf")).choose([[1.0, 0.0, 3.0], [0.0]]) == [[2, 0], []]


@pytest.mark.parametrize("face_ms", [1.0, 3.0, 9.0])
def test_a_budget_is_kept(face_ms: float) -> None:
    """With 20 faces at 1, 3 or 9 ms each and 10 ms per frame, no frame after the first ones spends more than 10 ms plus one look,
    and on average at least half the budget is used."""
    budget, spent = LookBudget(0.010), []
    for _ in range(200):
        many = len(budget.choose([[1.0] * 20])[0])
        budget.spent(many, many * face_ms / 1000)
        spent.append(many * face_ms)
    assert max(spent[10:]) <= 10 + face_ms and np.mean(spent[10:]) >= 5


def test_a_model_slower_than_the_budget_rests_in_between() -> None:
    """With 200 ms per look and 10 ms per frame, there is one look in about 20 frames, and never two in one frame."""
    budget, looks = LookBudget(0.010), []
    for _ in range(400):
        many = len(budget.choose([[1.0, 1.0]])[0])
        budget.spent(many, many * 0.2)
        looks.append(many)
    assert max(looks[5:]) == 1 and 15 <= sum(looks[5:]) <= 25


def test_sources_take_turns() -> None:
    """With a budget of four looks and two sources with six faces each, the two most urgent faces of each are chosen."""
    budget = LookBudget(0.016)
    assert budget.choose([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]]) == [[5, 4], [0, 1]]


def test_looks_given_back_can_be_taken_again() -> None:
    """Chosen looks that were not done do not count as spent."""
    budget = LookBudget(0.008)
    for _ in range(10):
        chosen = len(budget.choose([[1.0] * 5])[0])
        assert chosen == 2
        budget.refund(chosen)
