"""Give a trained checkpoint new words and bins: the towers stay the same, the words are embedded again."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..calibration.data.datasets import Dataset, open_data
from ..calibration.data.protocols import Protocol, recorded_protocol
from ..errors import ModelError, UsageError
from .batches import Rows
from .build import from_towers
from .checkpoint import load_checkpoint, save_checkpoint
from .groups import GROUPS
from .loop import HeadOptions, train_head
from .network import NumCLIP
from .prompts import token_ids
from .records import TrainingRecord
from .tasks_file import Task, load_task, task_of
from .towers import build_towers, open_clip, rebuild_towers
from .training_data import OWN, check_names, short_name, split_faces
from .validation import Figures, figures

STEPS, BATCH, LR = 600, 256, 2e-3
FORWARD = 128  # crops per call of the tower
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RebinOptions:
    """Options of `numclip.train.rebin`."""

    checkpoint: Path
    """A .safetensors checkpoint written by a training."""
    bins: Path
    """A task file, or a JSON file with only `bins` and `to` (and `context`, to change that too)."""
    out: Path
    """Path of the .safetensors checkpoint to write."""
    pretrained: str | None = None
    """Source of the text tower's token embedding: the tag or file that the training started from."""
    data: tuple[str, ...] = ()
    """DATA to fit the refinement on (train split) and to measure it on (val split); empty: the refinement is not fitted."""
    seed: int = 0
    """Seed of the new refinement and of its fit."""


@dataclass(frozen=True)
class RebinResult:
    """Errors before and after the words were replaced."""

    unit: str
    """Unit of the task."""
    num_bins: tuple[int, int]
    """Number of bins before and after."""
    figures: dict[str, tuple[Figures, Figures]]
    """Figures on val before and after, by data set; empty without data."""


def rebin(options: RebinOptions) -> RebinResult:
    """Embed the new words, fit the refinement, measure and write; raises UsageError, DataError, ModelError or
    OutputError."""
    check_names(options.data)
    torch.manual_seed(options.seed)
    old, record = load_checkpoint(options.checkpoint)
    task = new_task(old.task, options.bins)
    spoken = old.record.language_pretrained
    if spoken and options.pretrained is None:
        raise UsageError(
            f"expected --pretrained with the weights of {old.record.name} ({old.record.pretrained}), got none; the new words "
            "need its token embedding"
        )
    network = rebinned(old, task, options.pretrained if spoken else None)
    if not spoken:
        log.info("this text tower has no language pre-training: words that it was not trained on get random embeddings")
    data = [open_data(text) for text in options.data]
    crop = task.crop(old.record.image_side)
    if data and network.method.refinement_hidden:
        parts = [split_faces(d, "train", crop, protocol=protocol_for(d, record)) for d in data]
        refit(
            network,
            [p.crops for p in parts],
            torch.cat([torch.from_numpy(p.labels).float() for p in parts]),
            options.seed,
        )
    found: dict[str, tuple[Figures, Figures]] = {}
    for dataset in data:
        faces = split_faces(dataset, "val", crop, protocol=protocol_for(dataset, record))
        before, after = (figures(n, faces.crops, faces.labels, n.task.spec) for n in (old, network))
        found[faces.name] = before, after
    note = {
        "from": options.checkpoint.name,
        "bins": options.bins.name,
        "data": [short_name(d) for d in options.data],
    }
    save_checkpoint(options.out, network, replace(record, rebin=note))
    return RebinResult(task.spec.unit, (old.task.spec.num_bins, task.spec.num_bins), found)


def protocol_for(dataset: Dataset, record: TrainingRecord) -> Protocol:
    """Return the training's protocol for a data set that it used, so that val stays apart from what it trained on; else the default."""
    return recorded_protocol(record.flags) if dataset.short_name in record.data else OWN


def new_task(old: Task, path: Path) -> Task:
    """Return the checkpoint's task with the bins of a file: a complete task, or only `bins` and `to` (and `context`)."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: expected a JSON file with the fields bins and to, got an error: {error}; correct the path or the file"
        ) from None
    if isinstance(raw, dict) and set(cast(dict[str, object], raw)) <= {"bins", "to", "context"}:
        spec = old.spec
        rest: dict[str, object] = {
            "name": spec.name,
            "unit": spec.unit,
            "low": spec.low,
            "high": spec.high,
            "context": old.context,
        }
        rest |= {"words_by": "ours", "about": "", "crop": {"whole_picture": 1}}
        try:
            task = task_of(rest | raw)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{path}: expected the fields bins and to as in a task file, got an error: {error}; correct the file"
            ) from None
        return replace(task, landmarks=old.landmarks, box_rules=old.box_rules)
    task = load_task(str(path))
    if task.spec.name != old.spec.name or task.spec.unit != old.spec.unit:
        raise UsageError(
            f"{path}: expected a task of {old.spec.name} in {old.spec.unit}, got {task.spec.name} in {task.spec.unit}; "
            "rebin keeps the quantity that the checkpoint was trained for"
        )
    return replace(task, landmarks=old.landmarks, box_rules=old.box_rules)


def rebinned(old: NumCLIP, task: Task, pretrained: str | None) -> NumCLIP:
    """Build a network with the old towers, adapter and scale, the new words and an untrained refinement.

    Context and words that the old prompt had keep their trained embeddings; all other tokens start from the tower's own.
    """
    record = old.record
    side = record.image_side
    if pretrained is None:
        towers = rebuild_towers(record)
    else:
        towers = build_towers(record.name, pretrained, torch.zeros(1, side, side, 3, dtype=torch.uint8), side=side)
        towers = replace(towers, record=record)
    method = replace(old.method, ranks=False, base_ranks=0, refinement_as_released=False)
    network = from_towers(towers, task, method)
    mine = network.state_dict()
    kept = {n: t for n, t in old.state_dict().items() if not n.startswith(("refinement.", "prompt."))}
    network.load_state_dict({**mine, **kept})
    length = towers.text.positional_embedding.shape[0]
    _keep_learned(old, network, open_clip.get_tokenizer(record.name, context_length=length))
    return network.eval()


@torch.no_grad()
def _keep_learned(old: NumCLIP, new: NumCLIP, tokenize: Callable[[str], Tensor]) -> None:
    """Copy the fixed tokens, the context if it is unchanged, and every word that both prompts have."""
    new.prompt.fixed.copy_(old.prompt.fixed)
    if new.task.context == old.task.context and new.prompt.context.shape == old.prompt.context.shape:
        new.prompt.context.copy_(old.prompt.context)
    if old.prompt.base_ranks:
        return
    learned = dict(zip(old.task.spec.words, old.prompt.words.split(old.prompt.counts), strict=True))
    for word, rows in zip(new.task.spec.words, new.prompt.words.split(new.prompt.counts), strict=True):
        if word in learned and len(token_ids(tokenize, word)) == len(learned[word]):
            rows.copy_(learned[word])


def refit(network: NumCLIP, crops: list[Rows], labels: Tensor, seed: int) -> None:
    """Fit only the refinement (L1) on crops [N, S, S, 3] and labels [N], in place."""
    tower = network.image_tower
    features: list[Tensor] = []
    with torch.no_grad():
        for part in crops:
            for start in range(0, len(part), FORWARD):
                given = torch.from_numpy(part[start : start + FORWARD].copy()).permute(0, 3, 1, 2)
                features.append(tower((given - network.mean) / network.std))
    rates = {group: LR if group == "refinement" else 0.0 for group in GROUPS}
    options = HeadOptions(STEPS, min(BATCH, len(labels)), LR, 0.01, seed, 0.0, rates, (0.0, 0.0, 1.0))
    network.image_tower = nn.Identity()
    try:
        train_head(network, torch.cat(features), labels, options)
    finally:
        network.image_tower = tower
    network.requires_grad_(True).eval()
