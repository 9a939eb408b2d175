"""The options of a training as one frozen record, and what the authors' code sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from ..calibration.data.protocols import Protocol
from .method import Method, MethodName
from .tasks_file import Task, load_task

Amp = Literal["off", "bf16", "fp16"]
AMPS: tuple[Amp, ...] = get_args(Amp)


@dataclass(frozen=True)
class TrainOptions:
    """What `numclip.train.train` is told; the defaults are those of `numclip train`."""

    data: tuple[str, ...]
    """DATA of labelled pictures, as `utkface:utkface.tar`."""
    out: Path
    """The folder to write."""
    task: str = "age"
    """A task in `train/tasks/`, or the path of a .json file."""
    model: str = "nano"
    """nano, small, base, face-resnet, or any open_clip model name."""
    pretrained: str | None = None
    """An open_clip tag or a file of weights to start from; None: random weights."""
    start: Path | None = None
    """A checkpoint whose weights are all taken over."""
    teachers: tuple[Path, ...] = ()
    """Checkpoints whose reading of the same crop is half of each label, and whose words are learned; of a band the reading,
    clipped into it, is the value that is sought."""
    teach_once: bool = False
    """Ask the teachers once for each face, of the plain crop that each of them knows and its mirror image, before the training:
    cheaper, and a teacher may see more of the face than the pupil. Else of the very crop, at every step."""
    epochs: int = 20
    """How often each training picture is seen."""
    batch: int = 32
    """Crops in a step, of all processes together."""
    lr: float = 1e-3
    """The highest learning rate."""
    weight_decay: float = 0.05
    """Of matrices and kernels."""
    small_side_px: int | None = None
    """Side of the crops in the first `small_epochs`; None: the same side."""
    small_epochs: int = 0
    """Epochs on smaller crops, which are cheaper."""
    seed: int = 0
    """Decides the start, the order and each crop's augmentation."""
    resume: bool = False
    """Continue `out/last.pt` exactly."""
    smoke: bool = False
    """Use few faces of each data set: does it run?"""

    method: MethodName = "numclip"
    """The method; data, towers and evaluation are the same for all."""
    as_released: bool = False
    """NumCLIP as its authors' code has it."""
    weighting: Literal["inside", "outside", "none"] = "outside"
    """Where the weights of the ranking losses stand: inside the exponent, outside of it, or nowhere."""
    distance: Literal["bins", "values"] = "bins"
    """What these weights grow with: bins apart, or units between the bins' centers."""
    loss_weights: tuple[float, float, float] | None = None
    """Of image to text, text to image, L1; None: the method's own."""
    adapter_ratio: float | None = None
    """Of adapted to plain features; None: the method's own."""
    logit_scale: float | None = None
    """exp(logit scale) to start from; None: the tower's own."""
    train_text: bool = False
    """Train the text tower; where it is random it always is."""
    rates: Mapping[str, float] | None = None
    """Learning rates of groups of parameters, which overrule `lr`; 0 locks a group."""
    optimizer: Literal["adamw", "radam"] = "adamw"
    """The optimiser."""
    schedule: Literal["one-cycle", "step"] = "one-cycle"
    """The course of the learning rate: one cycle, or a tenth from epoch 60 on."""
    clip: float = 5.0
    """The largest norm of the gradient; 0: any."""
    ema: float = 0.999
    """Decay of the averaged weights, which are what is kept; 0: the last weights."""
    select: Literal["val", "test"] = "val"
    """The split that chooses the epoch."""
    augment: Literal["strong", "light", "released"] = "strong"
    """How far training crops are changed."""
    normalisation: Literal["own", "imagenet"] = "own"
    """The pixels' mean and standard deviation: the tower's own, or ImageNet's."""

    split_by: Literal["own", "subject", "random"] | None = None
    """Who draws the splits; None: the data set where its splits keep persons apart, else by subject."""
    fold: tuple[int, int] | None = None
    """I of N: fold I (from 0) tests, the rest trains."""
    shots: int | None = None
    """Training pictures of each label at most."""
    shift: tuple[int, float] | None = None
    """Of the so many most frequent labels only this share trains."""
    num_faces: int | None = None
    """Training pictures at most, at random; None: all."""
    balance: bool = False
    """Smaller data sets stand in an epoch several times, about as often as the largest."""
    repeat: tuple[tuple[float, float, int], ...] = ()
    """(from, to, times): training faces with such labels (of a band its middle) stand in an epoch so many times."""
    test: bool = False
    """Measure the test split at the end, into `out/result.json`."""

    side_px: int | None = None
    """Side of the crops; None: the tower's own."""
    coverage: float = 1.0
    """How much a crop shows across, as a multiple of the task's."""
    amp: Amp = "off"
    """Mixed precision: float32 alone, or with bfloat16 or float16 where the device has it."""
    checkpoint_gradients: bool = False
    """Compute activations again on the way back: less memory, a third more time."""

    def protocol(self) -> Protocol:
        """The choice of pictures."""
        return Protocol(self.split_by, self.fold, self.shots, self.shift, self.num_faces, self.seed)

    def build_method(self, task: Task) -> Method:
        """The method's switches."""
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
    """The same training with every switch as the authors' code has it for the task."""
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
