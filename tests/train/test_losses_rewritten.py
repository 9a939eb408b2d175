"""The ranking losses against a row-by-row float64 implementation; no loop over samples; no host-device synchronisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

losses = pytest.importorskip("numclip.train.losses", reason="needs the extra train")

BATCHES = 1000


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def weighted(s: np.ndarray, far: np.ndarray, scale: float, weighting: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted scores and d score / d s. far: distances; 0 for positives, whose weight is 1."""
    if weighting is None:
        return s, np.ones_like(s)
    w = np.ones_like(s)
    if far.sum() > 0:
        w[far > 0] = (scale * far / far.sum())[far > 0]
    return (w * s, w) if weighting == "inside" else (s + np.log(w), np.ones_like(s))


def image_to_text(s: np.ndarray, c: np.ndarray, weighting: str | None) -> tuple[float, np.ndarray]:
    """Return -mean_b log softmax_k(score)[c_b] and its gradient, image by image."""
    n, k = s.shape
    value, gradient = 0.0, np.zeros_like(s)
    for b in range(n):
        scores, slope = weighted(s[b], np.abs(np.arange(k) - c[b]).astype(float), k - 1, weighting)
        value -= log_softmax(scores)[c[b]] / n
        gradient[b] = slope * (softmax(scores) - (np.arange(k) == c[b])) / n
    return value, gradient


def text_to_image(s: np.ndarray, c: np.ndarray, weighting: str | None) -> tuple[float, np.ndarray]:
    """Return the mean KL(T_k || Q_k) over the bins that occur, and its gradient, bin by bin."""
    k = s.shape[1]
    present = np.unique(c)
    value, gradient = 0.0, np.zeros_like(s)
    for bin_ in present:
        target = 10.0 * (c == bin_)
        scores, slope = weighted(s[:, bin_], np.abs(c - bin_).astype(float), k - 1, weighting)
        value += (softmax(target) * (log_softmax(target) - log_softmax(scores))).sum() / len(present)
        gradient[:, bin_] = slope * (softmax(scores) - softmax(target)) / len(present)
    return value, gradient


def batch(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make logits [1 to 512, 2 to 101] and bins; some batches have only one bin, some CLIP's scale, some no scale."""
    random = np.random.default_rng(seed)
    n, k = (round(float(np.exp(random.uniform(np.log(low), np.log(high))))) for low, high in ((1, 512), (2, 101)))
    n, k = {0: (512, 101), 1: (1, 2), 2: (512, 2), 3: (1, 101)}.get(seed, (n, k))
    cosines = np.clip(random.normal(random.uniform(-0.2, 0.3), 0.1, (n, k)), -1, 1)
    logits = random.choice([1.0, 14.3, 100.0]) * cosines
    bins = np.full(n, random.integers(k)) if seed % 10 == 0 else random.integers(0, k, n)
    return logits.astype(np.float32).astype(np.float64), bins


@pytest.mark.parametrize("name", ["image_to_text", "text_to_image"])
def test_a_thousand_batches_against_the_formulas(name: str) -> None:
    """Value and gradient agree to 1e-9 in float64 and to 1e-4 in float32, relative to max(1, |value|)."""
    ours = getattr(losses, f"{name}_loss")
    for seed in range(BATCHES):
        s, c = batch(seed)
        weighting = losses.WEIGHTINGS[seed % 3]
        expected = globals()[name](s, c, weighting)
        for dtype, limit in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
            logits = torch.tensor(s, dtype=dtype, requires_grad=True)
            value = ours(logits, torch.from_numpy(c), weighting)
            value.backward()
            assert logits.grad is not None
            for want, got in zip(expected, (value.item(), logits.grad.double().numpy()), strict=True):
                worst = np.max(np.abs(got - want) / np.maximum(1, np.abs(want)))
                assert worst <= limit, (seed, weighting, dtype, s.shape, worst)


def loop_weights(label: int, others: list[int], scale: int) -> torch.Tensor:
    far = [abs(label - other) for other in others]
    return torch.tensor([scale * d / max(sum(far), 1) if d else 1.0 for d in far])


def loop_image_to_text(s: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """Compute the loss sample by sample in Python, reading each label from its tensor, like the released code."""
    k, total = s.shape[1], torch.zeros(())
    for b in range(len(s)):
        scores = loop_weights(int(c[b]), list(range(k)), k - 1) * s[b]
        total = total - torch.log_softmax(scores, 0)[c[b]]
    return total / len(s)


def loop_text_to_image(s: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    k, total, present = s.shape[1], torch.zeros(()), 0
    for bin_ in range(k):
        labels = [int(c[b]) for b in range(len(c))]
        if bin_ not in labels:
            continue
        present += 1
        target = torch.log_softmax(torch.tensor([10.0 * (label == bin_) for label in labels]), 0)
        scores = torch.log_softmax(loop_weights(bin_, labels, k - 1) * s[:, bin_], 0)
        for b in range(len(s)):
            total = total + target[b].exp() * (target[b] - scores[b])
    return total / present


class Operations(TorchDispatchMode):
    """Counts the tensor operations in its block."""

    def __init__(self) -> None:
        super().__init__()
        self.many = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.many += 1
        return func(*args, **(kwargs or {}))


def test_no_loop_over_samples() -> None:
    """With 5 bins, both losses take as many tensor operations for a batch of 512 as for 8, and at most a fiftieth of those of a
    Python loop over samples, which gives the same numbers."""
    random = torch.Generator().manual_seed(0)
    counts: list[int] = []
    for batch in (8, 512):
        s, c = 5 * torch.randn(batch, 5, generator=random), torch.randint(5, (batch,), generator=random)
        with Operations() as ours:
            fast = losses.image_to_text_loss(s, c, "inside") + losses.text_to_image_loss(s, c, "inside")
        counts.append(ours.many)
        with Operations() as loop:
            slow = loop_image_to_text(s, c) + loop_text_to_image(s, c)
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)
    assert 0 < counts[0] == counts[1] <= loop.many / 50


@pytest.mark.parametrize("weighting", losses.WEIGHTINGS)
def test_nothing_waits_for_the_device(weighting) -> None:
    """Both losses run forward and backward on meta tensors, so no value is read and no shape depends on a value."""
    with FakeTensorMode():
        s, c = torch.randn(64, 11, requires_grad=True), torch.zeros(64, dtype=torch.int64)
        positions = torch.arange(11.0)
        for loss in (losses.image_to_text_loss, losses.text_to_image_loss):
            loss(s, c, weighting).backward()
            loss(s, c, weighting, positions).backward()


def test_the_guard_against_waiting_can_fail() -> None:
    """Boolean indexing, whose result size depends on values, makes the synchronisation test fail."""
    with FakeTensorMode():
        values, mask = torch.randn(8), torch.zeros(8, dtype=torch.bool)
        with pytest.raises(DynamicOutputShapeException):
            values[mask]
