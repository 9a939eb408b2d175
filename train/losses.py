"""NumCLIP's ranking losses (arXiv 2408.03574): cross-modal, weighted by how far a bin lies from the right one.

Distances are in bins, |c - k|, or between the bins' `positions` where those are given. Both losses know three weightings:
`inside` (the weight multiplies the logit inside the exponential, as in the released code), `outside` (it multiplies the
exponential, as in the paper's equation) and None (plain cross-entropy and plain KL).

A label may be a band of the scale, which then has several right bins. What is written below for one right bin c is, word by
word, what these losses are where the band lies in one bin.
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

    logits: float [N, K], scaled by exp(logit_scale). bins: int64 [N] in 0..K-1, or float [N, K] the share of each label in
    each bin (`shares_of`), of which those above 0 are right. positions: float [K], rising; 0..K-1.
    inside:  -mean log( e^{s_c} / sum_k e^{w_k s_k} ); outside: -mean log( e^{s_c} / sum_k w_k e^{s_k} ); w_c = 1 and
    w_k = (K-1) |c-k| / sum_j |c-j|, so that the K-1 weights of the wrong bins sum to K-1. Of a band with R right bins: the sum
    of their e^{s_c} above, |c-k| to the nearest of them, and K-R wrong bins whose weights sum to K-R.
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
    """The ranking loss from each word to the images of the batch, a scalar: KL to a flat target over its positives.

    logits: float [N, K]; bins: int64 [N], or shares float [N, K]; positions: float [K], rising; 0..K-1. For each bin k that
    occurs: target T_k = softmax_b(10 [c_b = k]), prediction Q_k = softmax_b(w_kb s_bk) (inside) or softmax_b(s_bk + log w_kb)
    (outside), with w_kb = 1 for positives and (K-1) |k-c_b| / sum_b' |k-c_b'| for the others; the loss is the mean of
    KL(T_k || Q_k) over those bins. A band that lies in bin k by the share q is a positive that counts q times as much:
    T_kb is proportional to 1 + q (e^10 - 1). Nothing here waits for the device.
    """
    _check(weighting)
    num_bins = logits.shape[1]
    scores = logits.T  # [K, N]
    shares = _shares(bins, logits).T  # [K, N]
    positive = shares > 0
    if weighting is not None:
        distance = _distance(positive.T, logits, positions).T  # [K, N]
        total = distance.sum(dim=1, keepdim=True)
        total = total + (total == 0)  # 0 only where every sample is a positive
        weights = torch.where(positive, torch.ones_like(distance), (num_bins - 1) * distance / total)
        scores = weights * scores if weighting == "inside" else scores + weights.log()
    target = torch.log_softmax(torch.log1p(shares * math.expm1(POSITIVE_LOGIT)), dim=1)
    divergence = (target.exp() * (target - torch.log_softmax(scores, dim=1))).sum(dim=1)  # [K]
    present = positive.any(dim=1)
    return torch.where(present, divergence, 0).sum() / present.sum()


def bin_weights(num_bins: int, like: Tensor, positions: Tensor | None = None) -> Tensor:
    """[K, K] the weights of all bins (columns) for each right bin (rows): 1 on the diagonal, mean 1 beside it."""
    right = torch.eye(num_bins, dtype=torch.bool, device=like.device)
    return _weights(right, like, positions)


def _weights(right: Tensor, like: Tensor, positions: Tensor | None) -> Tensor:
    """[N, K] 1 for the right bins, and for the wrong ones weights of mean 1 that grow with the distance."""
    distance = _distance(right, like, positions)
    total = distance.sum(dim=1, keepdim=True)
    total = total + (total == 0)  # 0 only where every bin is right
    wrong = (~right).sum(dim=1, keepdim=True)
    return wrong * distance / total + right.to(like.dtype)


def _distance(right: Tensor, like: Tensor, positions: Tensor | None) -> Tensor:
    """[N, K] from each bin to the nearest right one; right: bool [N, K], at least one in each row."""
    at = torch.arange(right.shape[1], device=like.device) if positions is None else positions
    apart = (at[:, None] - at[None, :]).abs().to(like.dtype)  # [K, K]
    return apart.masked_fill(~right[:, None, :], math.inf).amin(dim=2)


def _shares(bins: Tensor, like: Tensor) -> Tensor:
    """[N, K] the share of each label in each bin, from such shares or from the number of its one bin [N]."""
    if bins.ndim == 2:
        return bins.to(like.dtype)
    return functional.one_hot(bins, like.shape[1]).to(like.dtype)


def bins_of(labels: Tensor, edges: tuple[float, ...], *, as_released: bool = False) -> Tensor:
    """int64 [N] the bin of each label: bin k is [edge k, edge k+1); what lies outside falls into the end bins.

    `as_released` puts negative labels into the last bin, as the released code does for the label 0 after its shift by 1.
    """
    bins = torch.bucketize(labels, on_device(edges[1:-1], labels.dtype, labels.device), right=True)
    if as_released:
        bins = torch.where(labels < 0, torch.full_like(bins, len(edges) - 2), bins)
    return bins


def shares_of(ends: Tensor, edges: tuple[float, ...], *, as_released: bool = False) -> Tensor:
    """float [N, K] the share of each label [N, 2] that lies in each bin; an exact label (equal ends) lies in one.

    A band of whole numbers, 20 to 29, is [20, 30), evenly filled; an open one (inf) ends with the last bin.
    """
    low, high = ends.T.contiguous()
    exact = functional.one_hot(bins_of(low, edges, as_released=as_released), len(edges) - 1).to(ends.dtype)
    edge = on_device(edges, ends.dtype, ends.device)
    start, end = low.clamp(edge[0], edge[-1])[:, None], (high + 1).clamp(edge[0], edge[-1])[:, None]
    inside = torch.minimum(end, edge[1:]) - torch.maximum(start, edge[:-1])  # [N, K]
    inside = inside.clamp_min(0) / (end - start).clamp_min(1e-6)
    apart = (low == high) | (start == end)[:, 0]  # exact, or a band beyond the scale
    return torch.where(apart[:, None], exact, inside)


@functools.lru_cache(maxsize=64)
def on_device(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A constant [n] on a device, copied there once: a copy at every step would make the host wait for it."""
    return torch.tensor(numbers, dtype=dtype, device=device)


def _check(weighting: Weighting) -> None:
    if weighting not in WEIGHTINGS:
        raise ValueError(f"expected weighting inside, outside or None, got {weighting!r}")


MAX_LOGIT_SCALE = math.log(100)
