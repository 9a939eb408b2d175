"""The ranking losses agree with the hand-computed numbers for the method and have its symmetries."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

losses = pytest.importorskip("numclip.train.losses", reason="needs the extra train")

S = [[1.0, 2, 0, 0, 0], [0, 3, 1, 0, 0], [0, 0, 1, 2, 1], [0, 0, 0, 1, 4]]  # a batch of four, bins 1 1 3 4

# logits, bins, image to text (inside), plain cross-entropy, text to image (inside), plain text to image
WORKED = {
    "zero logits": ([[0.0] * 5], [0], 1.609438, 1.609438, 0.0, 0.0),
    "the weight is inside the exponent": ([[2.0, 1, 0, -1, 3]], [1], 4.183900, 2.451914, 0.0, 0.0),
    "blind spot beside the right bin": ([[20.0, 25, 10, 5, 0]], [0], 5.2376e-5, 5.006716, 0.0, 0.0),
    "not shift-invariant": ([[22.0, 24, 27, 25, 21]], [2], 2.641240, 0.177593, 0.0, 0.0),
    "the same shifted by -20": ([[2.0, 4, 7, 5, 1]], [2], 0.053795, 0.177593, 0.0, 0.0),
    "a batch of four": (S, [1, 1, 3, 4], 0.337478, 0.404914, 0.235600, 0.254808),
    "four with zero logits": ([[0.0] * 5] * 4, [1, 1, 3, 4], 1.609438, 1.609438, 1.154080, 1.154080),
    "three bins": ([[3.0, 1, 0], [1, 2, 0], [0, 1, 4]], [0, 1, 2], 0.199043, 0.214445, 0.240687, 0.251651),
}


@pytest.mark.parametrize("name", WORKED)
def test_worked_numbers(name: str) -> None:
    """Both losses give the hand-computed numbers for the released code, with and without its weights."""
    logits, bins, i2t, plain, t2i, plain_t2i = WORKED[name]
    s, c = torch.tensor(logits, dtype=torch.float64), torch.tensor(bins)
    assert float(losses.image_to_text_loss(s, c, "inside")) == pytest.approx(i2t, abs=1e-6)
    assert float(losses.image_to_text_loss(s, c, None)) == pytest.approx(plain, abs=1e-6)
    assert float(losses.text_to_image_loss(s, c, "inside")) == pytest.approx(t2i, abs=1e-6)
    assert float(losses.text_to_image_loss(s, c, None)) == pytest.approx(plain_t2i, abs=1e-6)


def test_every_shared_vector(shared_data) -> None:
    """Every loss in the shared file of hand-computed numbers is reproduced to 1e-9 in float64."""
    import json

    for case in json.loads((shared_data / "reference" / "numclip_vectors.json").read_text())["losses"]:
        s, c = torch.tensor(case["logits"], dtype=torch.float64), torch.tensor(case["classes"])
        got = {
            "image_to_text": losses.image_to_text_loss(s, c, "inside"),
            "plain_cross_entropy": losses.image_to_text_loss(s, c, None),
            "text_to_image": losses.text_to_image_loss(s, c, "inside"),
            "text_to_image_unweighted": losses.text_to_image_loss(s, c, None),
        }
        for key, value in got.items():
            assert float(value) == pytest.approx(case[key], abs=1e-9), (case["name"], key)


def test_weights_of_five_bins() -> None:
    """The weights of the wrong bins grow with distance and sum to K - 1 in every row."""
    weights = losses.bin_weights(5, torch.zeros(1, dtype=torch.float64))
    assert weights[0].tolist() == pytest.approx([1, 0.4, 0.8, 1.2, 1.6])
    assert weights[1].tolist() == pytest.approx([4 / 7, 1, 4 / 7, 8 / 7, 12 / 7])
    assert weights[2].tolist() == pytest.approx([4 / 3, 2 / 3, 1, 2 / 3, 4 / 3])
    assert (weights.sum(1) - 1).tolist() == pytest.approx([4.0] * 5)


@pytest.mark.parametrize(
    ("bin_", "gradient"), [(0, [-0.8, 0.08, 0.16, 0.24, 0.32]), (2, [4 / 15, 2 / 15, -0.8, 2 / 15, 4 / 15])]
)
def test_gradient_at_zero(bin_: int, gradient: list[float]) -> None:
    """At zero logits the gradient on far bins is larger than on near ones, by the hand-computed amounts."""
    s = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    losses.image_to_text_loss(s, torch.tensor([bin_]), "inside").backward()
    assert s.grad is not None and s.grad[0].tolist() == pytest.approx(gradient, abs=1e-9)


def test_outside_weights_by_hand() -> None:
    """Hand-computed: `outside` with s=[2,1,0,-1,3], c=1 is log(sum_k w_k e^{s_k}) - s_c = 2.746318."""
    s, c = torch.tensor([[2.0, 1, 0, -1, 3]], dtype=torch.float64), torch.tensor([1])
    w = [4 / 7, 1, 4 / 7, 8 / 7, 12 / 7]
    by_hand = math.log(sum(wk * math.exp(sk) for wk, sk in zip(w, s[0].tolist()))) - 1
    assert float(losses.image_to_text_loss(s, c, "outside")) == pytest.approx(by_hand, abs=1e-9)
    assert by_hand == pytest.approx(2.746318, abs=1e-6)


@pytest.mark.parametrize("weighting", losses.WEIGHTINGS)
def test_one_bin_only_is_finite(weighting) -> None:
    """A batch with all faces in one bin gives finite losses and gradients, although a naive weight would be 0/0."""
    s = torch.randn(3, 5, requires_grad=True)
    total = losses.image_to_text_loss(s, torch.full((3,), 2), weighting) + losses.text_to_image_loss(
        s, torch.full((3,), 2), weighting
    )
    total.backward()
    assert s.grad is not None and torch.isfinite(total) and torch.isfinite(s.grad).all()


@given(st.integers(2, 9), st.integers(1, 12), st.integers(0, 10**6), st.sampled_from(losses.WEIGHTINGS))
@settings(max_examples=60, deadline=None)
def test_symmetries(num_bins: int, n: int, seed: int, weighting) -> None:
    """Reversing the bins or shuffling the batch changes neither loss; without weights both are at least 0."""
    random = torch.Generator().manual_seed(seed)
    s = 10 * torch.randn(n, num_bins, generator=random, dtype=torch.float64)
    c = torch.randint(num_bins, (n,), generator=random)
    shuffled = torch.randperm(n, generator=random)
    for loss in (losses.image_to_text_loss, losses.text_to_image_loss):
        value = float(loss(s, c, weighting))
        assert math.isfinite(value)
        assert float(loss(s.flip(1), num_bins - 1 - c, weighting)) == pytest.approx(value, rel=1e-9, abs=1e-9)
        assert float(loss(s[shuffled], c[shuffled], weighting)) == pytest.approx(value, rel=1e-9, abs=1e-9)
        if weighting is None:
            assert value >= -1e-9


def test_bins_of_raw_ages() -> None:
    """An edge belongs to the upper bin; the released code's offset of one year shifts labels, and puts -1 into the last bin."""
    edges = (0.0, 13.0, 19.0, 35.0, 65.0, 100.0)
    raw = torch.tensor([1.0, 12, 13, 14, 19, 20, 35, 36, 65, 66, 77, 0])
    assert losses.bins_of(raw, edges).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 0]
    assert losses.bins_of(raw - 1, edges, as_released=True).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4]


def test_unknown_weighting_is_refused() -> None:
    """A misspelt weighting is an error, not plain cross-entropy."""
    with pytest.raises(ValueError, match="'inside', 'outside' or None"):
        losses.image_to_text_loss(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64), "Inside")
