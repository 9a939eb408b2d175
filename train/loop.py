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
from .losses import bins_of, image_to_text_loss, on_device, text_to_image_loss
from .method import Method
from .network import NumCLIP, Outputs
from .processes import backward, gathered, open_fabric
from .schedule import build_optimizer, build_schedule
from .tasks_file import Task
from .teacher import Teachers, word_divergence

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
        """One step for each batch of inputs [B, ...] and labels [B]; returns the mean of each loss.

        Raises ModelError, which begins with `name`, where the loss is not finite.
        """
        self.network.train()
        device = self.fabric.device
        total, steps = torch.zeros(3, device=device), 0
        for inputs, labels in batches:
            inputs, labels = inputs.to(device), labels.to(device)
            outputs, extra = self.model(inputs), torch.zeros((), device=device)
            if self.teachers:
                with self.fabric.autocast():
                    taught, words = self.teachers.read(inputs)
                labels = (labels + taught) / 2
                extra = word_divergence(outputs.logits, words) / self.fabric.world_size  # of this process's share
            outputs, labels = gathered(self.fabric, outputs, labels)
            parts = loss_parts(outputs, labels, self.network.task, self.network.method)
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
    of which every second is mirrored. labels: float [N].
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


def loss_parts(outputs: Outputs, labels: Tensor, task: Task, method: Method) -> tuple[Tensor, Tensor, Tensor]:
    """Image-to-text, text-to-image and L1, each a scalar; the weights are the method's. labels: float [N]."""
    shifted = labels - method.label_offset
    bins = bins_of(shifted, task.spec.bin_edges, as_released=method.label_offset != 0)
    centers = task.spec.bin_centers
    at = on_device(centers, outputs.logits.dtype, outputs.logits.device) if method.distance == "values" else None
    return (
        image_to_text_loss(outputs.logits, bins, method.weighting, at),
        text_to_image_loss(outputs.logits, bins, method.weighting, at),
        (outputs.value - labels).abs().mean(),
    )
