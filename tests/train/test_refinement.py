"""The refinement, as released and repaired."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

refinement = pytest.importorskip("numclip.train.refinement", reason="needs the extra train")
MORPH = (0.0, 13.0, 19.0, 35.0, 65.0, 100.0)


def _released():
    return refinement.Refinement(MORPH, as_released=True, hidden=10)


def test_released_worked_numbers() -> None:
    """Hand-computed, with b = lower edges: delta 0 gives 23.7, the given delta gives 25.759091."""
    head = _released()
    p = torch.tensor([[0.1, 0.2, 0.4, 0.2, 0.1]])
    assert float(head.combine(p, torch.zeros(1, 5))) == pytest.approx(23.7, abs=1e-5)
    delta = torch.tensor([[0.9, -0.2, 0.1, 0.25, -0.35]])
    assert float(head.combine(p, delta)) == pytest.approx(25.759091, abs=1e-5)
    assert head.combine(torch.eye(5), delta.repeat(5, 1)).tolist() == pytest.approx(
        [0, 16.25, 17.272727, 28, 100], abs=1e-4
    )


def test_released_hand_set_head() -> None:
    """With given weights the released head gives the hand-computed delta and value."""
    head = _released()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.hidden.weight[0, 1], head.hidden.weight[1, 3], head.hidden.bias[2] = 0.1, 0.05, 1
        head.delta.weight[1, 0], head.delta.weight[3, 1], head.delta.weight[4, 2] = -0.2, 0.4, -0.3
    _, value = head(torch.tensor([[1.0, 3, 2, 4, 0]]))
    value = value.detach()
    assert float(value) == pytest.approx(26.570747, abs=1e-5)


def test_released_first_bin_is_stuck() -> None:
    """As released, a face certainly in a first bin from 0 always gets the value 0; with the repaired refinement it does not."""
    sure = torch.tensor([[1.0, 0, 0, 0, 0]])
    for delta in (-0.9, 0.0, 0.9):
        assert float(_released().combine(sure, torch.full((1, 5), delta))) == 0
    repaired = refinement.Refinement(MORPH, as_released=False, hidden=10)
    assert float(repaired.combine(sure, torch.full((1, 5), 0.5))) == pytest.approx(6.5 + 13 * 0.5)


def test_released_size() -> None:
    """The released head has 115 parameters for five bins; its unused ones are left out."""
    assert sum(p.numel() for p in _released().parameters()) == 115


def test_starts_at_the_expected_bin() -> None:
    """Before training the value is the expectation over the bin values, to 0.01."""
    logits = torch.randn(8, 5) * 3
    for as_released, values in ((True, [0.0, 13, 19, 35, 65]), (False, [6.5, 16, 27, 50, 82.5])):
        head = refinement.Refinement(MORPH, as_released=as_released, hidden=10)
        probabilities, value = head(logits)
        assert value.tolist() == pytest.approx((probabilities @ torch.tensor(values)).tolist(), abs=1e-2)


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_repaired_range(seed: int) -> None:
    """In the repaired form each bin can reach every value between its edges, and none further than half a width outside."""
    random = torch.Generator().manual_seed(seed)
    head = refinement.Refinement(MORPH, as_released=False, hidden=10)
    delta = 2 * torch.rand(1, 5, generator=random) - 1
    values = head.combine(torch.eye(5), delta.repeat(5, 1))
    edge = torch.tensor(MORPH)
    width = edge[1:] - edge[:-1]
    assert (values >= edge[:-1] - width / 2 - 1e-4).all() and (values <= edge[1:] + width / 2 + 1e-4).all()


def test_released_total_of_the_worked_batch() -> None:
    """Hand-computed: the three losses of a batch with ages 16, 18, 40, 70 sum to 8.937321."""
    from numclip.train.losses import bins_of, image_to_text_loss, text_to_image_loss

    s = torch.tensor([[1.0, 2, 0, 0, 0], [0, 3, 1, 0, 0], [0, 0, 1, 2, 1], [0, 0, 0, 1, 4]])
    labels = torch.tensor([16.0, 18, 40, 70]) - 1
    bins = bins_of(labels, MORPH, as_released=True)
    value = _released().combine(torch.softmax(s, 1), torch.tensor([[0.9, -0.2, 0.1, 0.25, -0.35]]).repeat(4, 1))
    total = (
        image_to_text_loss(s, bins, "inside") + text_to_image_loss(s, bins, "inside") + (value - labels).abs().mean()
    )
    assert float(total) == pytest.approx(8.937321, abs=1e-4)


def test_every_other_shared_vector(shared_data) -> None:
    """All sections of the shared numbers other than the losses are reproduced, and no section is left unread."""
    import json

    from numclip.train import losses

    read = json.loads((shared_data / "reference" / "numclip_vectors.json").read_text())
    double = _released().double()
    for case in read.pop("refinement"):
        p, delta = (torch.tensor([case[k]], dtype=torch.float64) for k in ("probabilities", "delta"))
        assert case["bin_values"] == list(MORPH[:-1])
        assert float(double.combine(p, delta)) == pytest.approx(case["value"], abs=1e-9)
    head = read.pop("head")
    with torch.no_grad():
        for parameter in double.parameters():
            parameter.zero_()
        for matrix, key in ((double.hidden.weight, "A1_nonzero"), (double.delta.weight, "A2_nonzero")):
            for place, number in head[key].items():
                matrix[tuple(int(i) for i in place.split(","))] = number
        for place, number in head["c1_nonzero"].items():
            double.hidden.bias[int(place)] = number
        s = torch.tensor([head["logits"]], dtype=torch.float64)
        assert float(double(s)[1]) == pytest.approx(head["value"], abs=2e-5)
        delta = torch.tanh(double.delta(torch.relu(double.hidden(s))))
        assert delta[0].tolist() == pytest.approx(head["delta"], abs=1e-6)
    ages = read.pop("age_bins")
    raw = torch.tensor(ages["raw"], dtype=torch.float64)
    assert losses.bins_of(raw - 1, MORPH, as_released=True).tolist() == ages["as_released_label_minus_one"]
    assert losses.bins_of(raw, MORPH).tolist() == ages["without_the_shift"]
    whole = read.pop("total")
    s, labels = (torch.tensor(whole[k], dtype=torch.float64) for k in ("logits", "raw_labels"))
    delta = torch.tensor([whole["delta"]] * len(s), dtype=torch.float64)
    labels = labels - whole["label_offset"]
    bins = losses.bins_of(labels, MORPH, as_released=True)
    l1 = (double.combine(torch.softmax(s, 1), delta) - labels).abs().mean()
    total = losses.image_to_text_loss(s, bins, "inside") + losses.text_to_image_loss(s, bins, "inside") + l1
    assert float(total) == pytest.approx(whole["total"], abs=1e-6)
    weights = losses.bin_weights(5, torch.zeros(1, dtype=torch.float64))
    for row, expected in zip(weights.tolist(), read.pop("weights_image_to_text_5_bins"), strict=True):
        assert row == pytest.approx(expected, abs=1e-9)
    for name, expected in read.pop("gradient_at_zero_logits_batch_1").items():
        s = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
        losses.image_to_text_loss(s, torch.tensor([int(name[-1])]), "inside").backward()
        assert s.grad is not None and s.grad[0].tolist() == pytest.approx(expected, abs=1e-9)
    assert set(read) == {"about", "losses"}, "test_losses.py reads the section losses"


def test_released_values_of_a_task() -> None:
    """If a task has the released regressor's values, they replace the lower edges."""
    edges = (-0.5, 0.5, 1.5, 2.5)
    head = refinement.Refinement(edges, as_released=True, hidden=10, released_values=(0.0, 1.0, 2.0))
    assert head.values.tolist() == [0, 1, 2]
    plain = refinement.Expectation(edges)
    probabilities, value = plain(torch.log(torch.tensor([[0.25, 0.25, 0.5]])))
    assert probabilities[0].tolist() == pytest.approx([0.25, 0.25, 0.5]) and float(value) == pytest.approx(1.25)
