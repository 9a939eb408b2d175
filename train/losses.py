"""NumCLIP's cross-modal ranking losses (arXiv 2408.03574), weighted by the distance of a bin from the correct one.

Distances are in bins, |c - k|, or between the bins' `positions` if those are given. Both losses have three weightings:
`inside` (the weight multiplies the logit inside the exponential, as in the released code), `outside` (it multiplies the
exponential, as in the paper's equation) and None (plain cross-entropy and plain KL).

A label may be a band (an interval of the scale), which has several correct bins. If the band lies in one bin c, the losses
equal the formulas below for one correct bin.
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
POSITIVE_LOGIT = 10.0  # the released code's target: softmax over the batch of 10 * [sample is in this bin]


def image_to_text_loss(
    logits: Tensor, bins: Tensor, weighting: Weighting = "outside", positions: Tensor | None = None
) -> Tensor:
    """Return the fine-grained cross-modal ranking loss from image to text, a scalar.

    logits: float [N, K], scaled by exp(logit_scale). bins: int64 [N] in 0..K-1, or float [N, K] the share of each label in
    each bin (`shares_of`); bins with a share above 0 are correct. positions: float [K], ascending (default: 0..K-1).
    inside:  -mean log( e^{s_c} / sum_k e^{w_k s_k} ); outside: -mean log( e^{s_c} / sum_k w_k e^{s_k} ); w_c = 1 and
    w_k = (K-1) |c-k| / sum_j |c-j|, so that the K-1 weights of the wrong bins sum to K-1. For a band with R correct bins:
    the numerator is the sum of their e^{s_c}, |c-k| is the distance to the nearest of them, and the K-R weights sum to K-R.
    """
    _check(weighting)
    right = _shares(bins, logits) > 0  # [N, K]
    weighted = logits
    if weighting is not None:
        weights = _weights(right, logits, positions)
        weighted = weights * logits if weighting == "inside" else logits + weights.log()
    log_shares = torch.log_softmax(weighted, dim=1).masked_fill(~right, -math.inf)
    return -torch.logsumexp(log_shares, dim=1).mean()


def text_to_image_loss(
    logits: Tensor, bins: Tensor, weighting: Weighting = "outside", positions: Tensor | None = None
) -> Tensor:
    """Return the ranking loss from each word to the batch's images, a scalar: KL to a uniform target over its positives.

    logits: float [N, K]; bins: int64 [N], or shares float [N, K]; positions: float [K], ascending (default: 0..K-1).
    For each bin k that occurs in the batch: target T_k = softmax_b(10 [c_b = k]), prediction Q_k = softmax_b(w_kb s_bk)
    (inside) or softmax_b(s_bk + log w_kb) (outside), with w_kb = 1 for positives and (K-1) |k-c_b| / sum_b' |k-c_b'| for
    the others. The loss is the mean of KL(T_k || Q_k) over those bins. A band with the share q in bin k is a positive with
    weight q: T_kb is proportional to 1 + q (e^10 - 1). There is no host-device synchronisation.
    """
    _check(weighting)
    num_bins = logits.shape[1]
    scores = logits.T  # [K, N]
    shares = _shares(bins, logits).T  # [K, N]
    positive = shares > 0
    if weighting is not None:
        distance = _distance(positive.T, logits, positions).T  # [K, N]
        total = distance.sum(dim=1, keepdim=True)
        total = total + (total == 0)  # 0 only if every sample is a positive
        weights = torch.where(positive, torch.ones_like(distance), (num_bins - 1) * distance / total)
        scores = weights * scores if weighting == "inside" else scores + weights.log()
    target = torch.log_softmax(torch.log1p(shares * math.expm1(POSITIVE_LOGIT)), dim=1)
    divergence = (target.exp() * (target - torch.log_softmax(scores, dim=1))).sum(dim=1)  # [K]
    present = positive.any(dim=1)
    return torch.where(present, divergence, 0).sum() / present.sum()


def bin_weights(num_bins: int, like: Tensor, positions: Tensor | None = None) -> Tensor:
    """Return the weights [K, K] of all bins (columns) for each correct bin (rows): 1 on the diagonal, mean 1 off it."""
    right = torch.eye(num_bins, dtype=torch.bool, device=like.device)
    return _weights(right, like, positions)


def _weights(right: Tensor, like: Tensor, positions: Tensor | None) -> Tensor:
    """Return weights [N, K]: 1 for correct bins; for wrong bins proportional to the distance, with mean 1."""
    distance = _distance(right, like, positions)
    total = distance.sum(dim=1, keepdim=True)
    total = total + (total == 0)  # 0 only if every bin is correct
    wrong = (~right).sum(dim=1, keepdim=True)
    return wrong * distance / total + right.to(like.dtype)


def _distance(right: Tensor, like: Tensor, positions: Tensor | None) -> Tensor:
    """Return the distance [N, K] of each bin to the nearest correct one; right: bool [N, K], at least one true per row."""
    at = torch.arange(right.shape[1], device=like.device) if positions is None else positions
    apart = (at[:, None] - at[None, :]).abs().to(like.dtype)  # [K, K]
    return apart.masked_fill(~right[:, None, :], math.inf).amin(dim=2)


def _shares(bins: Tensor, like: Tensor) -> Tensor:
    """Return the share of each label in each bin, [N, K], from shares or from bin indices [N]."""
    if bins.ndim == 2:
        return bins.to(like.dtype)
    return functional.one_hot(bins, like.shape[1]).to(like.dtype)


def bins_of(labels: Tensor, edges: tuple[float, ...], *, as_released: bool = False) -> Tensor:
    """Return the bin of each label, int64 [N]: bin k is [edge k, edge k+1); labels outside fall into the first or last bin.

    `as_released` puts negative labels into the last bin, as the released code does with label 0 after subtracting 1.
    """
    bins = torch.bucketize(labels, on_device(edges[1:-1], labels.dtype, labels.device), right=True)
    if as_released:
        bins = torch.where(labels < 0, torch.full_like(bins, len(edges) - 2), bins)
    return bins


def shares_of(ends: Tensor, edges: tuple[float, ...], *, as_released: bool = False) -> Tensor:
    """Return the share of each label [N, 2] in each bin, float [N, K]; an exact label (equal ends) lies in one bin.

    The band 20 to 29 is taken as uniform over [20, 30); an open-ended band (inf) ends with the last bin.
    """
    low, high = ends.T.contiguous()
    exact = functional.one_hot(bins_of(low, edges, as_released=as_released), len(edges) - 1).to(ends.dtype)
    edge = on_device(edges, ends.dtype, ends.device)
    start, end = low.clamp(edge[0], edge[-1])[:, None], (high + 1).clamp(edge[0], edge[-1])[:, None]
    inside = torch.minimum(end, edge[1:]) - torch.maximum(start, edge[:-1])  # [N, K]
    inside = inside.clamp_min(0) / (end - start).clamp_min(1e-6)
    apart = (low == high) | (start == end)[:, 0]  # exact label, or a band outside the scale
    return torch.where(apart[:, None], exact, inside)


def upper_end(ends: Tensor) -> Tensor:
    """Return the upper end [N] of the values that labels [N, 2] allow: a band of whole numbers, 20 to 29, allows 20 to 30."""
    return torch.where(ends[:, 1] > ends[:, 0], ends[:, 1] + 1, ends[:, 1])


@functools.lru_cache(maxsize=64)
def on_device(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a constant [n] on a device, copied once: a copy at every step would block the host."""
    return torch.tensor(numbers, dtype=dtype, device=device)


def _check(weighting: Weighting) -> None:
    if weighting not in WEIGHTINGS:
        raise ValueError(f"expected weighting 'inside', 'outside' or None, got {weighting!r}")


MAX_LOGIT_SCALE = math.log(100)
