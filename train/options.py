"""Options of a training as one frozen record, and the settings of the authors' code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from ..calibration.data.protocols import Protocol
from .method import Method, MethodName
from .tasks_file import Task, load_task

Amp = Literal["off", "bf16", "fp16"]
# options whose name differs from that of their flag, by flag
BY_FLAG = {"small_side": "small_side_px", "side": "side_px", "lr_of": "rates", "teacher": "teachers"}
AMPS: tuple[Amp, ...] = get_args(Amp)


@dataclass(frozen=True)
class TrainOptions:
    """Options of `numclip.train.train`; the defaults are those of `numclip train`."""

    data: tuple[str, ...]
    """DATA of labelled pictures, such as `utkface:utkface.tar`."""
    out: Path
    """Folder for the results."""
    task: str = "age"
    """A task in `train/tasks/`, or the path of a .json file."""
    model: str = "nano"
    """nano, slim, small, base, face-resnet, or any open_clip model name."""
    pretrained: str | None = None
    """An open_clip tag or a file of weights to start from; None: random weights."""
    start: Path | None = None
    """A checkpoint of the same network; the training starts from all of its weights."""
    teachers: tuple[Path, ...] = ()
    """Teachers to distil from: checkpoints, or files of another network's predictions (.json), which need `teach_once`. The target
    value is the mean of the label and the teachers' value; for a band it is the teachers' value clipped into the band. The student
    also learns the teachers' bin probabilities."""
    teach_once: bool = False
    """Run the teachers once per face before the training, on the unaugmented crop and its mirror image. This is cheaper, and a
    teacher may see a wider crop than the student. Off: run them at every step, on the student's augmented crop."""
    epochs: int = 20
    """Number of passes over the training pictures."""
    batch: int = 32
    """Crops per step, over all processes."""
    lr: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 0.05
    """Weight decay, for matrices and kernels only."""
    small_side_px: int | None = None
    """Side of the crops in the first `small_epochs`, px; None: the same side in all epochs."""
    small_epochs: int = 0
    """Number of first epochs on smaller crops, which are cheaper."""
    seed: int = 0
    """Seed of the initial weights, the order of the faces, the augmentation, and the choice of `shots`, `shift` and `num_faces`. It
    does not change the splits."""
    resume: bool = False
    """Continue from `out/last.pt`, exactly as if the training had not stopped."""
    smoke: bool = False
    """Use only a few faces of each data set, to test that the training runs."""

    method: MethodName = "numclip"
    """The method: numclip, zero-shot, coop or ordinalclip. Data, towers and evaluation are the same for all."""
    as_released: bool = False
    """Set every switch as in the authors' code."""
    weighting: Literal["inside", "outside", "none"] = "outside"
    """Where the ranking losses apply their weights: inside the exponent, outside it, or none for unweighted losses."""
    distance: Literal["bins", "values"] = "bins"
    """Distance behind these weights: number of bins, or units between bin centers."""
    loss_weights: tuple[float, float, float] | None = None
    """Weights of the image-to-text loss, the text-to-image loss and L1; None: the method's own."""
    adapter_ratio: float | None = None
    """Share of the adapted features in the mix of adapted and plain ones; None: the method's own."""
    logit_scale: float | None = None
    """Initial exp(logit_scale); None: the tower's own."""
    train_text: bool = False
    """Train the text tower; a text tower without language pre-training is always trained."""
    rates: Mapping[str, float] | None = None
    """Learning rates by parameter group, which override `lr`; 0 freezes a group."""
    optimizer: Literal["adamw", "radam"] = "adamw"
    """The optimiser."""
    schedule: Literal["one-cycle", "step"] = "one-cycle"
    """Learning rate schedule: one cycle, or a step to a tenth at epoch 60."""
    clip: float = 5.0
    """Clip the gradient norm at this value; 0 turns clipping off."""
    ema: float = 0.999
    """Decay of the weight average, which is what checkpoints hold; 0: use the current weights."""
    select: Literal["val", "test"] = "val"
    """The split on which the epoch is selected."""
    augment: Literal["strong", "light", "released"] = "strong"
    """Strength of the augmentation."""
    normalisation: Literal["own", "imagenet"] = "own"
    """Pixel normalisation: the tower's own mean and standard deviation, or ImageNet's."""

    split_by: Literal["own", "subject", "random"] | None = None
    """How to split the data; None: use the data set's own splits if no person is in two of them, else split by subject."""
    fold: tuple[int, int] | None = None
    """(I, N): test on fold I (from 0) of N, train on the others."""
    shots: int | None = None
    """Use at most this many training pictures per label."""
    shift: tuple[int, float] | None = None
    """(K, share): of the K most frequent labels, keep only this share of the training pictures."""
    num_faces: int | None = None
    """Use at most this many training pictures, chosen at random; None: all."""
    balance: bool = False
    """Repeat smaller data sets within an epoch, so that all have about as many faces as the largest."""
    repeat: tuple[tuple[float, float, int], ...] = ()
    """(from, to, times): repeat training faces with labels in this range within an epoch; a band counts by its middle."""
    band_slack: float = 0.0
    """Widen bands by this much on both sides for the losses and teachers, in the task's unit: ages that people guessed are often a
    few years off. Validation uses the bands as they are."""
    test: bool = False
    """Measure the test split at the end and write `out/result.json`."""

    side_px: int | None = None
    """Side of the crops, px; None: the tower's own."""
    coverage: float = 1.0
    """Width that a crop covers, as a multiple of the task's crop."""
    amp: Amp = "off"
    """Mixed precision: off (float32), bf16 or fp16; switched off on a device without hardware support."""
    checkpoint_gradients: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""

    def protocol(self) -> Protocol:
        """Return how the pictures are chosen and split."""
        return Protocol(self.split_by, self.fold, self.shots, self.shift, self.num_faces, self.seed)

    def build_method(self, task: Task) -> Method:
        """Return the method with its switches."""
        if self.as_released:
            method = Method.as_released(task.released.label_offset, learns_context=task.released.learns_context)
        else:
            method = Method.named(self.method)
        if method.name == "numclip" and not self.as_released:
            weighting = None if self.weighting == "none" else self.weighting
            method = replace(method, weighting=weighting, distance=self.distance)
        if self.loss_weights is not None:
            method = replace(method, loss_weights=self.loss_weights)
        if self.adapter_ratio is not None:
            method = replace(method, adapter_ratio=self.adapter_ratio)
        return method


def as_released(options: TrainOptions) -> TrainOptions:
    """Return the same training with every switch set as in the authors' code for the task."""
    return replace(
        options,
        as_released=True,
        epochs=load_task(options.task).released.epochs,
        lr=1e-5,
        weight_decay=0.0,
        optimizer="radam",
        schedule="step",
        clip=0.0,
        ema=0.0,
        select="test",
        augment="released",
        normalisation="imagenet",
        amp="fp16",
    )
