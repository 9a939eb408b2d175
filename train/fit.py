"""A training run: its data and network, the loop over epochs, and its output folder.

The output folder gets best.safetensors (averaged weights of the epoch with the lowest mean error on the `val` splits), last.pt
(the state that `resume` continues from), log.jsonl (one line per epoch) and, with `test`, result.json. The cache folder gets
some faces of the `val` splits: an export of best.safetensors is checked on them.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.memory_format import convert_conv2d_weight_memory_format
from tqdm import tqdm

from ..calibration.data.datasets import open_data
from ..calibration.measure.kept_proof import keep_proof
from ..calibration.measure.parity import PROOF_FACES, spread
from ..errors import OutputError, UsageError
from ..runtime.places import write_json
from .augment import AUGMENTATIONS
from .average import Average
from .batches import Epoch, batches
from .build import build_network
from .checkpoint import file_sha256, load_checkpoint, reading_state, save_checkpoint, save_state
from .groups import learning_rates, lock, parameter_groups
from .loop import Learner
from .options import TrainOptions
from .processes import Waiting, open_fabric, synchronised, usable_amp
from .records import Json, TrainingRecord, to_json
from .schedule import build_optimizer, build_schedule
from .sources import sources_of
from .tasks_file import load_task
from .teacher import Teachers, ask_once, is_table
from .towers import input_side
from .training_data import ValidationFaces, check_names, leaks, short_name, split_faces, training_faces
from .validation import Figures, figures

BEST, LAST = "best.safetensors", "last.pt"
# options that may change when a training is resumed
FREE = {"data", "out", "pretrained", "start", "resume", "test", "checkpoint_gradients", "smoke"}
PACKAGES = ("torch", "open_clip_torch", "timm", "numpy", "opencv-python")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """The result of a training run."""

    out: Path
    """The output folder, with best.safetensors in it."""
    unit: str
    """Unit of the task."""
    selected_on: str
    """The split on which the epoch was selected."""
    epoch: int
    """The selected epoch, from 1."""
    mae: float
    """Mean absolute error on that split, averaged over the data sets, in the task's unit."""
    figures: Mapping[str, Figures]
    """Figures on that split, by data set."""
    faces: int
    """Number of training faces per epoch."""
    test: Mapping[str, Figures] = field(default_factory=lambda: dict[str, Figures]())
    """Figures on the test split, by data set; empty unless `test` was set."""
    leaks: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    """By data set, how many test pictures show a person of the training split; data sets without any are left out."""
    first_process: bool = True
    """True in the process that writes files and reports."""


def train(options: TrainOptions) -> TrainResult:
    """Train, or resume a training; raises UsageError, DataError or ModelError before anything is written.

    Sets torch's random state from the seed.
    """
    if (options.out / LAST).exists() and not options.resume:
        raise UsageError(f"{options.out} already holds a training; continue it with --resume, or give another --out")
    check_names(options.data)
    _check_numbers(options)
    _check_method(options)
    if options.teach_once and not options.teachers:
        raise UsageError("expected --teacher with --teach-once, got none; name the teacher checkpoints with --teacher")
    table = next((path for path in options.teachers if is_table(path)), None)
    if table is not None and not options.teach_once:
        raise UsageError(f"expected --teach-once with --teacher {table}, which holds one prediction per face; add it")
    amp = usable_amp(options.amp, as_released=options.as_released)
    if amp != options.amp:
        log.info("--amp %s is switched off: this device has no hardware support for it", options.amp)
    torch.manual_seed(options.seed)
    fit = Fit(replace(options, amp=amp))
    fit.loop()
    fit.keep_faces()
    return fit.result()


def _check_numbers(options: TrainOptions) -> None:
    """Raise UsageError for a number that is out of its range."""
    bounds: list[tuple[str, float | None, float, bool]] = [
        ("--epochs", options.epochs, 1, True),
        ("--batch", options.batch, 2, True),
        ("--seed", options.seed, 0, True),
        ("--side", options.side_px, 16, True),
        ("--small-side", options.small_side_px, 16, True),
        ("--lr", options.lr, 0, True),
        ("--weight-decay", options.weight_decay, 0, True),
        ("--shots", options.shots, 1, True),
        ("--num-faces", options.num_faces, 1, True),
        ("--small-epochs", options.small_epochs, 0, True),
        ("--band-slack", options.band_slack, 0, True),
        ("--logit-scale", options.logit_scale, 0, False),
        ("--coverage", options.coverage, 0, False),
    ]
    for flag, number, low, inclusive in bounds:
        if number is not None and not (math.isfinite(number) and (number >= low if inclusive else number > low)):
            raise UsageError(f"expected {flag} {'of at least' if inclusive else 'above'} {low:g}, got {number:g}")
    if (options.small_side_px is None) != (options.small_epochs == 0):
        raise UsageError(
            f"expected --small-side together with --small-epochs, got {options.small_side_px} and {options.small_epochs}"
        )


def _check_method(options: TrainOptions) -> None:
    """Raise UsageError for settings of the ranking losses that the method does not use."""
    own = options.method == "numclip" and not options.as_released
    if options.as_released and options.method != "numclip":
        raise UsageError(f"expected --as-released with --method numclip, got {options.method}; leave one of them out")
    if not own and (options.weighting != "outside" or options.distance != "bins"):
        which = "--as-released" if options.as_released else f"--method {options.method}"
        raise UsageError(f"{which} sets --weighting and --distance itself; leave them out")


class Fit:
    """One training run: data, network, optimiser and progress."""

    def __init__(self, options: TrainOptions) -> None:
        self.options, self.task = options, load_task(options.task).covering(options.coverage)
        self.fabric = open_fabric(options.amp, options.batch)
        self.protocol = options.protocol()
        self.data = [open_data(text) for text in options.data]
        for dataset in self.data:
            dataset.check_labels(self.task.spec)
        self.side = options.side_px or input_side(options.model)
        crop, smoke = self.task.crop(self.side), options.smoke
        once = ask_once(options.teachers, self.task, self.fabric.device) if options.teach_once else None
        with self.fabric.rank_zero_first():
            self.faces, self.counts = training_faces(
                self.data,
                crop,
                smoke,
                self.protocol,
                balance=options.balance,
                repeat=options.repeat,
                slack=options.band_slack,
                asked=once,
            )
            self.validation = [split_faces(d, options.select, crop, smoke, self.protocol) for d in self.data]
        self.sources = sources_of(options, self.data)
        teachers = Teachers(options.teachers, self.task, self.fabric.device) if options.teachers and not once else None
        network = build_network(options, self.task, self.faces)
        self.network = network.to(self.fabric.device)
        convert_conv2d_weight_memory_format(self.network, torch.channels_last)
        rates = learning_rates(self.network, options.lr, options.rates or {}, train_text=options.train_text)
        lock(self.network, rates)
        self.average = Average(self.network, options.ema)
        self.steps = len(self.faces) // options.batch
        if self.steps == 0:
            raise UsageError(
                f"expected at least --batch {options.batch} training faces, got {len(self.faces)}; lower --batch"
            )
        groups = parameter_groups(self.network, rates, options.weight_decay)
        self.epochs = options.epochs if groups else 1
        self.learner: Learner | None = None  # None: the method trains nothing
        if groups:
            optimizer = build_optimizer(groups, options.optimizer)
            schedule = build_schedule(optimizer, options.schedule, self.steps, options.epochs)
            model, stepper = self.fabric.setup(synchronised(self.network, self.fabric), optimizer)
            weights = self.network.method.loss_weights
            self.learner = Learner(
                self.network, model, stepper, schedule, self.fabric, options.clip, weights, self.average, teachers
            )
        self.epoch, self.best, self.best_epoch = 0, math.inf, -1
        self.kept: dict[str, Figures] = {}
        options.out.mkdir(parents=True, exist_ok=True)
        if options.resume:
            self._resume()

    def loop(self) -> None:
        """Run all remaining epochs: train, validate, write."""
        while self.epoch < self.epochs:
            started = time.monotonic()
            losses, wait_s = self._train_epoch()
            trained_s = time.monotonic() - started
            self.epoch += 1
            if self.fabric.is_global_zero:
                self._keep(self._validate())
                line = {"epoch": self.epoch, "loss": losses, **by_figure(self._last)}
                line |= {"data_wait": round(wait_s / trained_s, 4), "train_s": round(trained_s, 1)}
                text = json.dumps(line | {"seconds": round(time.monotonic() - started, 1)})
                with (self.options.out / "log.jsonl").open("a") as file:
                    file.write(text + "\n")
                log.info(text)
            self.fabric.barrier()

    def keep_faces(self) -> None:
        """Store some validation faces in the cache; an export of the checkpoint is checked on them."""
        if not self.fabric.is_global_zero:
            return
        keep_some(self.options.out / BEST, self.options.select, self.validation)

    def result(self) -> TrainResult:
        """Return the selected epoch and its figures; with `test`, also measure the test splits and write result.json."""
        options = self.options
        found = TrainResult(
            options.out,
            self.task.spec.unit,
            options.select,
            self.best_epoch,
            self.best,
            self.kept,
            len(self.faces),
            first_process=self.fabric.is_global_zero,
        )
        if options.test and self.fabric.is_global_zero:
            network, _ = load_checkpoint(options.out / BEST)
            network = network.to(self.fabric.device)
            crop = self.task.crop(self.side)
            parts = [split_faces(d, "test", crop, options.smoke, self.protocol) for d in self.data]
            test = {v.name: figures(network, v.crops, v.labels, self.task.spec) for v in parts}
            found = replace(found, test=test, leaks=leaks(self.data, self.protocol))
            content = asdict(found) | {"out": str(options.out), "flags": self._flags()}
            content[options.select] = content.pop("figures")
            write_json(str(options.out / "result.json"), content)
        return found

    def _train_epoch(self) -> tuple[dict[str, float], float]:
        """Train one epoch: its mean losses, and the seconds spent waiting for data."""
        if self.learner is None:
            return {}, 0.0
        options, fabric = self.options, self.fabric
        small = options.small_side_px if self.epoch < options.small_epochs else None
        share, how = (fabric.global_rank, fabric.world_size), AUGMENTATIONS[options.augment]
        epoch = Epoch(self.faces, self.epoch, options.batch, small or self.side, options.seed, how, share)
        source, name = Waiting(batches(epoch)), f"epoch {self.epoch + 1}"
        progress = tqdm(source, total=self.steps, desc=f"{name}/{self.epochs}", disable=None)
        return self.learner.learn(progress, name), source.waited_s

    def _validate(self) -> dict[str, Figures]:
        """Measure the averaged weights on each data set's validation split."""
        network, words = self.average.network, self.task.spec
        return {v.name: figures(network, v.crops, v.labels, words) for v in self.validation}

    def _keep(self, metrics: dict[str, Figures]) -> None:
        """Write the checkpoint if it is the best so far, and the state for `resume`."""
        self._last = metrics
        mean = float(np.mean([m.mae for m in metrics.values()]))
        if mean < self.best:
            self.best, self.best_epoch, self.kept = mean, self.epoch, metrics
            save_checkpoint(self.options.out / BEST, self.average.network, self._record(metrics))
        learner = self.learner
        state = {
            "epoch": self.epoch,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "kept": {name: asdict(m) for name, m in self.kept.items()},
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": learner.optimizer.state_dict() if learner else {},
            "schedule": learner.schedule.state_dict() if learner else {},
            "scaler": self.fabric.strategy.precision.state_dict(),
            "rng": torch.get_rng_state(),
            "identity": self._identity(),
        }
        save_state(self.options.out / LAST, state)

    def _record(self, metrics: dict[str, Figures]) -> TrainingRecord:
        return TrainingRecord(
            data=self.counts,
            epoch=self.epoch,
            **by_figure(metrics),
            selected_on=self.options.select,
            flags=self._flags(),
            versions={"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
            sources=self.sources,
        )

    def _flags(self) -> dict[str, Json]:
        """Return the options without local folder names."""
        options = self.options
        names = {
            n: None if p is None else Path(p).name for n, p in vars(options).items() if n in ("pretrained", "start")
        }
        return {
            **{n: str(v) if isinstance(v, Path) else v for n, v in to_json(options).items()},
            **names,
            "data": [short_name(d) for d in options.data],
            "out": options.out.name,
            "teachers": [path.name for path in options.teachers],
        }

    def _identity(self) -> dict[str, Json]:
        """Return what must not change when a training is resumed."""
        flags = {name: value for name, value in self._flags().items() if name not in FREE}
        return flags | {"faces": len(self.faces), "method": to_json(self.network.method)}

    def _resume(self) -> None:
        path = self.options.out / LAST
        if not path.is_file():
            raise UsageError(
                f"expected {path} to resume from, found no such file; leave --resume out to start a training"
            )
        with reading_state(path):
            state = torch.load(path, weights_only=True, map_location=self.fabric.device)
            mine, theirs = self._identity(), state["identity"]
            for name in mine:
                if json.dumps(mine[name]) != json.dumps(theirs.get(name)):
                    raise UsageError(
                        f"{path}: expected {name} {theirs.get(name)!r} as in the training to resume, got {mine[name]!r}; "
                        "give the same value, or another --out"
                    )
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            if self.learner:
                self.learner.optimizer.load_state_dict(state["optimizer"])
                self.learner.schedule.load_state_dict(state["schedule"])
            self.fabric.strategy.precision.load_state_dict(state["scaler"])
            torch.set_rng_state(state["rng"].cpu())
            self.epoch, self.best, self.best_epoch = state["epoch"], state["best"], state["best_epoch"]
            self.kept = {name: Figures(**m) for name, m in state["kept"].items()}


def keep_some(checkpoint: Path, split: str, faces: Sequence[ValidationFaces]) -> None:
    """Store some faces of a split in the cache, for the check of the checkpoint's export; warns if that fails."""
    said = ", ".join(f"{split} of {v.name}" for v in faces)
    try:
        keep_proof(file_sha256(checkpoint), spread([(v.crops, v.labels) for v in faces], said, PROOF_FACES))
    except (OSError, OutputError) as error:
        log.warning(
            "warning: no validation faces could be stored for the export check (%s); run the export with --data", error
        )


def by_figure(metrics: Mapping[str, Figures]) -> dict[str, dict[str, float]]:
    """Return `val_mae`, `val_cs5` and `val_coarse`, each by data set."""
    keys = ("mae", "cs5", "coarse")
    return {f"val_{key}": {name: getattr(m, key) for name, m in metrics.items()} for key in keys}
