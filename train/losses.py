"""NumCLIP's ranking losses (arXiv 2408.03574): cross-modal, weighted by how far a bin lies from the right one.

Distances are in bins, |c - k|, or between the bins' `positions` where those are given. Both losses know three weightings: `inside` (the weight multiplies the logit inside the
exponential, as in the released code), `outside` (it multiplies the exponential, as in the paper's equation) and None
(plain cross-entropy and plain KL).
"""

from __future__ import annotations

import functools
import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Weighting = Literal["inside", "outside"] | None
Distance = Literal["bins", "values"]
WEIGHTINGS: tuple[Weighting, ...] = ("inside", "outside", None)
POSITIVE_LOGIT = 10.0  # the released code's target: softmax over the batch of 10 * [sample is of this bin]


def image_to_text_loss(
    logits: Tensor, bins: Tensor, weighting: Weighting = "outside", positions: Tensor | None = None
) -> Tensor:
    """The fine-grained cross-modal ranking loss from image to words, a scalar.

    logits: float [N, K], scaled by exp(logit_scale). bins: int64 [N] in 0..K-1. positions: float [K], rising; 0..K-1.
    inside:  -mean log( e^{s_c} / sum_k e^{w_k s_k} ); outside: -mean log( e^{s_c} / sum_k w_k e^{s_k} ); w_c = 1 and
    w_k = (K-1) |c-k| / sum_j |c-j|, so that the K-1 weights of the wrong bins sum to K-1.
    """
    _check(weighting)
    if weighting is None:
        return functional.cross_entropy(logits, bins)
    weights = bin_weights(logits.shape[1], logits, positions)[bins]  # [N, K]
    weighted = weights * logits if weighting == "inside" else logits + weights.log()
    return functional.cross_entropy(weighted, bins)


def text_to_image_loss(
    logits: Tensor, bins: Tensor, weighting: Weighting = "outside", positions: Tensor | None = None
) -> Tensor:
    """The ranking loss from each word to the images of the batch, a scalar: KL to a flat target over its positives.

    logits: float [N, K]; bins: int64 [N]; positions: float [K], rising; 0..K-1. For each bin k that occurs: target
    T_k = softmax_b(10 [c_b = k]), prediction Q_k = softmax_b(w_kb s_bk) (inside) or softmax_b(s_bk + log w_kb) (outside),
    with w_kb = 1 for positives and (K-1) |k-c_b| / sum_b' |k-c_b'| for the others; the loss is the mean of KL(T_k || Q_k)
    over those bins. Nothing here waits for the device.
    """
    _check(weighting)
    num_bins = logits.shape[1]
    scores = logits.T  # [K, N]
    each_bin = torch.arange(num_bins, device=logits.device)
    positive = each_bin[:, None] == bins[None, :]  # [K, N]
    if weighting is not None:
        at = each_bin.to(logits.dtype) if positions is None else positions.to(logits.dtype)
        distance = (at[:, None] - at[bins][None, :]).abs()  # [K, N]
        total = distance.sum(dim=1, keepdim=True)
        total = total + (total == 0)  # 0 only where every sample is a positive
        weights = torch.where(positive, torch.ones_like(distance), (num_bins - 1) * distance / total)
        scores = weights * scores if weighting == "inside" else scores + weights.log()
    target = torch.log_softmax(POSITIVE_LOGIT * positive.to(logits.dtype), dim=1)
    divergence = (target.exp() * (target - torch.log_softmax(scores, dim=1))).sum(dim=1)  # [K]
    present = positive.any(dim=1)
    return torch.where(present, divergence, 0).sum() / present.sum()


def bin_weights(num_bins: int, like: Tensor, positions: Tensor | None = None) -> Tensor:
    """[K, K] the weights of all bins (columns) for each right bin (rows): 1 on the diagonal, mean 1 beside it."""
    at = torch.arange(num_bins, device=like.device) if positions is None else positions
    distance = (at[:, None] - at[None, :]).abs().to(like.dtype)
    weights = (num_bins - 1) * distance / distance.sum(dim=1, keepdim=True)
    return weights + torch.eye(num_bins, dtype=like.dtype, device=like.device)


def bins_of(labels: Tensor, edges: tuple[float, ...], *, as_released: bool = False) -> Tensor:
    """int64 [N] the bin of each label: bin k is [edge k, edge k+1); what lies outside falls into the end bins.

    `as_released` puts negative labels into the last bin, as the released code does for the label 0 after its shift by 1.
    """
    bins = torch.bucketize(labels, on_device(edges[1:-1], labels.dtype, labels.device), right=True)
    if as_released:
        bins = torch.where(labels < 0, torch.full_like(bins, len(edges) - 2), bins)
    return bins


@functools.lru_cache(maxsize=64)
def on_device(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A constant [n] on a device, copied there once: a copy at every step would make the host wait for it."""
    return torch.tensor(numbers, dtype=dtype, device=device)


def _check(weighting: Weighting) -> None:
    if weighting not in WEIGHTINGS:
        raise ValueError(f"expected weighting inside, outside or None, got {weighting!r}")


MAX_LOGIT_SCALE = math.log(100)
