"""The groups of a network's parameters: which are learned, and how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from torch import Tensor

from ..errors import UsageError
from .network import NumCLIP

# group: how its parameters' names begin
GROUPS = {
    "image": "image_tower.",
    "adapter": "adapter.",
    "refinement": "refinement.",
    "words": "prompt.words",
    "context": "prompt.context",
    "text": "text_tower.",
    "scale": "logit_scale",
}


class ParameterGroup(TypedDict):
    """Parameters that an optimiser treats alike."""

    params: list[Tensor]
    lr: float
    weight_decay: float


def group_of(name: str) -> str:
    """The group that a parameter of this name belongs to."""
    return next(group for group, start in GROUPS.items() if name.startswith(start))


def parse_rates(texts: Sequence[str]) -> dict[str, float]:
    """`image=1e-5 text=0` as numbers; raises UsageError for an unknown group."""
    rates: dict[str, float] = {}
    for text in texts:
        group, equals, number = text.partition("=")
        try:
            rates[group] = float(number)
        except ValueError:
            equals = ""
        if not equals or group not in GROUPS or not rates[group] >= 0:
            raise UsageError(f"expected --lr-of GROUP=RATE with GROUP of {', '.join(GROUPS)}, got {text!r}")
    return rates


def learning_rates(network: NumCLIP, lr: float, rates: Mapping[str, float], *, train_text: bool) -> dict[str, float]:
    """The highest learning rate of each group; 0 where it stays as it is.

    The method says what is learned. The text tower and the logit scale are, beside it, where they are random, that is
    without language pre-training, unless nothing is learned at all. `rates` overrules all of it, group by group.
    """
    learned = set(network.method.learns)
    if learned and not network.record.language_pretrained:
        learned |= {"text", "scale"}
    if train_text:
        learned.add("text")
    return {group: lr if group in learned else 0.0 for group in GROUPS} | dict(rates)


def lock(network: NumCLIP, rates: dict[str, float]) -> None:
    """Let only parameters of groups with a learning rate above 0 learn."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(rates[group_of(name)] > 0)


def parameter_groups(network: NumCLIP, rates: dict[str, float], weight_decay: float) -> list[ParameterGroup]:
    """For an optimiser: by learning rate, weight decay on matrices and kernels only; none on norms, prompts, the scale."""
    found: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decay = 0.0 if parameter.ndim < 2 or name.startswith("prompt") else weight_decay
            found.setdefault((rates[group_of(name)], decay), []).append(parameter)
    return [{"params": found[key], "lr": key[0], "weight_decay": key[1]} for key in sorted(found, reverse=True)]
