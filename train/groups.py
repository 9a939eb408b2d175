"""Parameter groups of the network: which ones are trained, and their learning rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from torch import Tensor

from ..errors import UsageError
from .network import NumCLIP

# group: prefixes of its parameters' names
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
    """Parameters with the same learning rate and weight decay."""

    params: list[Tensor]
    lr: float
    weight_decay: float


def group_of(name: str) -> str:
    """Return the group of the parameter with this name."""
    return next(group for group, start in GROUPS.items() if name.startswith(start))


def parse_rates(texts: Sequence[str]) -> dict[str, float]:
    """Parse `image=1e-5 text=0`; raises UsageError for an unknown group."""
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
    """Return the peak learning rate of each group; 0 for a frozen group.

    The method decides which groups are trained. Without language pre-training the text tower and the logit scale are trained too,
        unless the method trains nothing. `rates` overrides both, group by group.
    """
    learned = set(network.method.learns)
    if learned and not network.record.language_pretrained:
        learned |= {"text", "scale"}
    if train_text:
        learned.add("text")
    return {group: lr if group in learned else 0.0 for group in GROUPS} | dict(rates)


def lock(network: NumCLIP, rates: dict[str, float]) -> None:
    """Freeze the parameters of all groups whose learning rate is 0."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(rates[group_of(name)] > 0)


def parameter_groups(network: NumCLIP, rates: dict[str, float], weight_decay: float) -> list[ParameterGroup]:
    """Group parameters for the optimiser; weight decay applies to matrices and kernels, not to norms, prompts or the scale."""
    found: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decay = 0.0 if parameter.ndim < 2 or name.startswith("prompt") else weight_decay
            found.setdefault((rates[group_of(name)], decay), []).append(parameter)
    return [{"params": found[key], "lr": key[0], "weight_decay": key[1]} for key in sorted(found, reverse=True)]
