"""The one training loop: of a whole network over an epoch's crops, or of a head alone over features of a frozen trunk."""

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
from .losses import image_to_text_loss, on_device, shares_of, text_to_image_loss
from .method import Method
from .network import NumCLIP, Outputs
from .processes import backward, gathered, open_fabric
from .schedule import build_optimizer, build_schedule
from .tasks_file import Task
from .teacher import Teachers, inside_bands, sought, word_divergence

LOSSES = ("image_to_text", "text_to_image", "l1")


@dataclass(frozen=True, eq=False)
class Learner:
    """A network and all that a step of its training needs."""

    network: NumCLIP
    model: nn.Module
    """The network as the processes run it."""
    optimizer: torch.optim.Optimizer
    """As the processes run it."""
    schedule: torch.optim.lr_scheduler.LRScheduler
    fabric: Fabric
    clip: float
    """The largest norm of the gradient; 0: any."""
    loss_weights: tuple[float, float, float]
    """Of image to text, text to image, L1."""
    average: Average | None = None
    teachers: Teachers | None = None

    def learn(self, batches: Iterable[tuple[Tensor, Tensor]], name: str) -> dict[str, float]:
        """One step for each batch of inputs [B, ...] and labels; returns the mean of each loss.

        labels: float [B]; or [B, 2], the ends of bands, equal where exact; or [B, 3 + K], then what teachers said of the faces,
        their number and words. Raises ModelError, which begins with `name`, where the loss is not finite.
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
                raise ModelError(f"{name}: the loss is {loss.item()}; lower --lr or resume an earlier state")
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
    """How a head is trained alone."""

    steps: int
    batch: int
    """Pictures in a step, drawn with replacement."""
    lr: float
    """The highest learning rate, of one cycle."""
    weight_decay: float = 0.05
    """Of matrices."""
    seed: int = 0
    """Decides what is drawn."""
    clip: float = 5.0
    """The largest norm of the gradient; 0: any."""
    rates: Mapping[str, float] | None = None
    """Learning rates of groups of parameters, which overrule `lr`; 0 locks a group."""
    loss_weights: tuple[float, float, float] | None = None
    """Of image to text, text to image, L1; None: the method's own."""


def train_head(network: NumCLIP, inputs: Tensor, labels: Tensor, options: HeadOptions) -> NumCLIP:
    """Train what follows a frozen trunk, in place; the network, in eval mode, is returned.

    inputs: float [N, F] what the trunk put out, `network.image_tower` being what follows it; or crops uint8 [N, S, S, 3],
    of which every second is mirrored. labels: float [N], or the ends of bands [N, 2].
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
    """[N, 2] lowest and highest of labels [N] or of rows that begin with these ends [N, 2 or more]."""
    return torch.stack([labels, labels], dim=1) if labels.ndim == 1 else labels[:, :2]


def loss_parts(
    outputs: Outputs, labels: Tensor, task: Task, method: Method, value_ends: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Image-to-text, text-to-image and L1, each a scalar; the weights are the method's.

    labels: float [N], or the ends of bands [N, 2], equal where exact. value_ends: [N, 2] between what the value is sought where
    that is not the label. L1 is the distance to them: 0 inside a band.
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
        (outputs.value - outputs.value.detach().clamp(within[:, 0], within[:, 1])).abs().mean(),
    )
