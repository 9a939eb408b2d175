"""The training loop: trains the whole network on an epoch's crops, or only a head on the features of a frozen trunk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ..errors import ModelError
from .average import Average
from .batches import drawn
from .groups import learning_rates, lock, parameter_groups
from .losses import image_to_text_loss, on_device, shares_of, text_to_image_loss, upper_end
from .method import Method
from .network import NumCLIP, Outputs
from .processes import backward, gathered, open_fabric
from .schedule import build_optimizer, build_schedule
from .tasks_file import Task
from .teacher import Teachers, inside_bands, sought, word_divergence

LOSSES = ("image_to_text", "text_to_image", "l1")


@dataclass(frozen=True, eq=False)
class Learner:
    """A network and everything that a training step needs."""

    network: NumCLIP
    model: nn.Module
    """The network as wrapped by Fabric."""
    optimizer: torch.optim.Optimizer
    """The optimiser as wrapped by Fabric."""
    schedule: torch.optim.lr_scheduler.LRScheduler
    fabric: Fabric
    clip: float
    """Clip the gradient norm at this value; 0 turns clipping off."""
    loss_weights: tuple[float, float, float]
    """Weights of the image-to-text loss, the text-to-image loss and L1."""
    average: Average | None = None
    teachers: Teachers | None = None

    def learn(self, batches: Iterable[tuple[Tensor, Tensor]], name: str) -> dict[str, float]:
        """Train one step per batch of inputs [B, ...] and labels; returns the mean of each loss.

        labels: float [B]; or [B, 2], lower and upper ends (equal for exact labels); or [B, 3 + K], then the teachers' value and bin
        probabilities. Raises ModelError, with `name` first, if the loss is not finite.
        """
        self.network.train()
        device = self.fabric.device
        total, steps = torch.zeros(3, device=device), 0
        for inputs, labels in batches:
            inputs, labels = inputs.to(device), labels.to(device)
            outputs, extra = self.model(inputs), torch.zeros((), device=device)
            ends, value_ends = as_ends(labels), as_ends(labels)
            said = (labels[:, 2], labels[:, 3:]) if labels.ndim == 2 and labels.shape[1] > 2 else None
            if self.teachers:
                with self.fabric.autocast():
                    said = self.teachers.read(inputs)
            if said is not None:
                taught, words = said
                shares = shares_of(ends, self.network.task.spec.bin_edges)
                ends, value_ends = sought(ends, taught)
                words = inside_bands(words, shares)
                extra = word_divergence(outputs.logits, words) / self.fabric.world_size  # of this process's share
            outputs, both = gathered(self.fabric, outputs, torch.cat([ends, value_ends], dim=1))
            parts = loss_parts(outputs, both[:, :2], self.network.task, self.network.method, both[:, 2:])
            loss = extra + sum(w * part for w, part in zip(self.loss_weights, parts, strict=True))
            if not torch.isfinite(loss):
                raise ModelError(f"{name}: expected a finite loss, got {loss.item()}; lower --lr and train again")
            self.optimizer.zero_grad(set_to_none=True)
            backward(self.fabric, loss)
            if self.clip:
                self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.clip, error_if_nonfinite=False)
            self.optimizer.step()
            self.schedule.step()
            if self.average is not None:
                self.average.update()
            total += torch.stack(parts).detach()
            steps += 1
        return {n: round(v / max(1, steps), 6) for n, v in zip(LOSSES, total.tolist(), strict=True)}


@dataclass(frozen=True)
class HeadOptions:
    """Options for training a head alone."""

    steps: int
    batch: int
    """Pictures per step, drawn with replacement."""
    lr: float
    """Peak learning rate of the one-cycle schedule."""
    weight_decay: float = 0.05
    """Weight decay, for matrices only."""
    seed: int = 0
    """Seed of the sampling."""
    clip: float = 5.0
    """Clip the gradient norm at this value; 0 turns clipping off."""
    rates: Mapping[str, float] | None = None
    """Learning rates by parameter group, which override `lr`; 0 freezes a group."""
    loss_weights: tuple[float, float, float] | None = None
    """Weights of the image-to-text loss, the text-to-image loss and L1; None: the method's own."""


def train_head(network: NumCLIP, inputs: Tensor, labels: Tensor, options: HeadOptions) -> NumCLIP:
    """Train the part of the network after a frozen trunk, in place; returns the network in eval mode.

    inputs: float [N, F], outputs of the trunk (`network.image_tower` is then only the part after it); or crops uint8
    [N, S, S, 3], half of which are mirrored. labels: float [N], or lower and upper ends [N, 2].
    """
    rates = learning_rates(network, options.lr, options.rates or {}, train_text=False)
    lock(network, rates)
    groups = parameter_groups(network, rates, options.weight_decay)
    if groups:
        fabric = open_fabric("off", options.batch)
        optimizer = build_optimizer(groups, "adamw")
        schedule = build_schedule(optimizer, "one-cycle", options.steps, 1)
        model, stepper = fabric.setup(network.to(fabric.device), optimizer)
        weights = options.loss_weights or network.method.loss_weights
        learner = Learner(network, model, stepper, schedule, fabric, options.clip, weights)
        batches = drawn(
            inputs, labels, batch=options.batch, steps=options.steps, seed=options.seed, device=fabric.device
        )
        learner.learn(batches, "head")
    return network.eval()


def as_ends(labels: Tensor) -> Tensor:
    """Return lower and upper ends [N, 2] of labels [N], or of rows [N, 2 or more] that begin with these ends."""
    return torch.stack([labels, labels], dim=1) if labels.ndim == 1 else labels[:, :2]


def loss_parts(
    outputs: Outputs, labels: Tensor, task: Task, method: Method, value_ends: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the image-to-text loss, the text-to-image loss and L1, each a scalar; the weighting is the method's.

    labels: float [N], or lower and upper ends [N, 2] (equal for exact labels). value_ends: [N, 2], target range of the value where
    it differs from the label. L1 is the distance to that range: 0 inside it.
    """
    ends = as_ends(labels)
    within = ends if value_ends is None else value_ends
    edges, released = task.spec.bin_edges, method.label_offset != 0
    bins = shares_of(ends - method.label_offset, edges, as_released=released)
    centers = task.spec.bin_centers
    at = on_device(centers, outputs.logits.dtype, outputs.logits.device) if method.distance == "values" else None
    return (
        image_to_text_loss(outputs.logits, bins, method.weighting, at),
        text_to_image_loss(outputs.logits, bins, method.weighting, at),
        (outputs.value - outputs.value.detach().clamp(within[:, 0], upper_end(within))).abs().mean(),
    )
