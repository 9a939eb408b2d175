"""Put new words and bins into a trained checkpoint: the towers stay, the words are embedded anew.

--bins is a task file, or one with `bins` and `to` alone (and `context`, if that changes too). The new words' tokens are
those of the text tower's language pre-training, which --pretrained names as it did in training. A text tower that never
saw language knows only the words it was trained on: then new tokens are noise, and what can be kept is kept only by
fitting the small refinement again on --data. The command measures what it cost.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..calibration.data.datasets import open_data
from ..errors import ModelError, UsageError
from .checkpoint import load_checkpoint, save_checkpoint
from .losses import MAX_LOGIT_SCALE
from .network import NumCLIP
from .prompts import Prompt, token_ids
from .tasks_file import Task, load_task, task_of
from .towers import build_towers, open_clip, rebuild_towers
from .training_data import short_name, split_faces
from .validation import figures

STEPS, BATCH, LR = 600, 256, 2e-3
FORWARD = 128  # crops at a time through the tower


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip rebin`."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a .safetensors that numclip train wrote")
    parser.add_argument("--bins", required=True, type=Path, metavar="FILE", help="a JSON with bins and to, or a task")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the .safetensors to write")
    parser.add_argument("--pretrained", help="where the text tower's tokens come from: the tag or file of the training")
    parser.add_argument(
        "--data", nargs="+", default=[], metavar="DATA", help="fit the refinement on train, measure on val"
    )
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Embed, fit, measure, write; and say what it cost."""
    torch.manual_seed(args.seed)
    old, record = load_checkpoint(args.checkpoint)
    task = new_task(old.task, args.bins)
    spoken = bool(old.record["language_pretrained"])
    if spoken and args.pretrained is None:
        raise UsageError(
            f"expected --pretrained with the weights of {old.record['name']} ({old.record['pretrained']}), whose tokens "
            "the new words need"
        )
    network = rebinned(old, task, args.pretrained if spoken else None)
    if not spoken:
        print("this text tower has no language pre-training: words it was not trained on are noise to it")
    data = [open_data(text) for text in args.data]
    crop = task.crop(int(old.record["image_side"]))
    if data:
        parts = [split_faces(d, "train", crop) for d in data]
        refit(
            network,
            torch.cat([embeddings(network, p.crops) for p in parts]),
            torch.cat([_labels(p.labels) for p in parts]),
        )
    for dataset in data:
        faces = split_faces(dataset, "val", crop)
        before, after = (figures(n, faces.crops, faces.labels, n.task.spec) for n in (old, network))
        print(
            f"{faces.name} val: MAE {before['mae']:.2f} -> {after['mae']:.2f} {task.spec.unit}, "
            f"words right {before['coarse']:.1%} of {old.task.spec.num_bins} -> {after['coarse']:.1%} of {task.spec.num_bins}"
        )
    if not data:
        print("not measured, and the refinement starts anew: give --data to fit it and to see what this cost")
    note = {"from": args.checkpoint.name, "bins": args.bins.name, "data": [short_name(d) for d in args.data]}
    save_checkpoint(args.out, network, record | {"rebin": note})
    print(f"next: numclip export {args.out} --out {args.out.stem}.onnx --data {args.data[0] if args.data else 'DATA'}")
    return 0


def new_task(old: Task, path: Path) -> Task:
    """The checkpoint's task with the bins of a file: a whole task, or one's `bins` and `to` (and `context`)."""
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected a JSON with bins and to ({error}); correct the path or the file") from None
    if isinstance(raw, dict) and set(raw) <= {"bins", "to", "context"}:
        spec = old.spec
        rest = {"name": spec.name, "unit": spec.unit, "low": spec.low, "high": spec.high, "context": old.context}
        rest |= {"words_by": "ours", "about": "", "crop": {"whole_picture": 1}}
        try:
            task = task_of(rest | raw)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path}: expected bins and to as a task has them, failed at {error}") from None
        return replace(task, landmarks=old.landmarks, box_rules=old.box_rules)
    task = load_task(str(path))
    if task.spec.name != old.spec.name or task.spec.unit != old.spec.unit:
        raise UsageError(
            f"{path}: expected a task of {old.spec.name} in {old.spec.unit}, got {task.spec.name} in {task.spec.unit}"
        )
    return replace(task, landmarks=old.landmarks, box_rules=old.box_rules)


def rebinned(old: NumCLIP, task: Task, pretrained: str | None) -> NumCLIP:
    """A network with the old one's towers, adapter and scale, new words, and a refinement that starts anew.

    Context and words that the old prompt had keep what they learned; other tokens are the tower's own.
    """
    record = old.record
    side = int(record["image_side"])
    pictures = torch.zeros(1, side, side, 3, dtype=torch.uint8)
    if pretrained is None:
        towers = rebuild_towers(record)
    else:
        towers = build_towers(str(record["name"]), pretrained, pictures, side=side)
        towers = replace(towers, record=record)
    method = replace(old.method, ranks=False, base_ranks=0, refinement_as_released=False)
    length = towers.text.positional_embedding.shape[0]
    tokenize = open_clip.get_tokenizer(str(record["name"]), context_length=length)
    prompt = Prompt.from_words(tokenize, towers.token_embedding, task.context, task.spec.words, length)
    network = NumCLIP(task, towers, prompt, method)
    mine = network.state_dict()
    kept = {n: t for n, t in old.state_dict().items() if not n.startswith(("refinement.", "prompt."))}
    network.load_state_dict({**mine, **kept})
    _keep_learned(old, network, tokenize)
    return network.eval()


@torch.no_grad()
def _keep_learned(old: NumCLIP, new: NumCLIP, tokenize: Any) -> None:
    """Copy the fixed tokens, the context if it is the same sentence, and every word that is still there."""
    new.prompt.fixed.copy_(old.prompt.fixed)
    if new.task.context == old.task.context and new.prompt.context.shape == old.prompt.context.shape:
        new.prompt.context.copy_(old.prompt.context)
    if old.prompt.base_ranks:
        return
    learned = dict(zip(old.task.spec.words, old.prompt.words.split(old.prompt.counts), strict=True))
    for word, rows in zip(new.task.spec.words, new.prompt.words.split(new.prompt.counts), strict=True):
        if word in learned and len(token_ids(tokenize, word)) == len(learned[word]):
            rows.copy_(learned[word])


@torch.no_grad()
def embeddings(network: NumCLIP, crops: Any) -> Tensor:
    """[N, D] of uint8 crops [N, S, S, 3], in batches."""
    starts = range(0, len(crops), FORWARD)
    return torch.cat([network.embed(torch.from_numpy(crops[i : i + FORWARD].copy())) for i in starts])


def refit(network: NumCLIP, embedding: Tensor, labels: Tensor) -> None:
    """Fit the refinement alone (L1) on embeddings [N, D] and labels [N]; towers, words and scale stay."""
    if network.method.refinement_hidden == 0:
        return
    with torch.no_grad():
        bins = network.text_bins()
        logits = network.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * embedding @ bins.T
    optimizer = torch.optim.AdamW(network.refinement.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(len(labels), (min(BATCH, len(labels)),))
        given = embedding[chosen] if network.method.refinement_embedding else None
        value = network.refinement(logits[chosen], given)[1] + network.method.label_offset
        loss = nn.functional.l1_loss(value, labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _labels(labels: Any) -> Tensor:
    return torch.as_tensor(labels, dtype=torch.float32)
