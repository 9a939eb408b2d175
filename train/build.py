"""A network to train, from the flags: towers, prompt, method, and the weights it starts from."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from ..errors import ModelError
from .batches import TrainingFaces
from .checkpoint import load_checkpoint
from .flags import method_of
from .network import NumCLIP
from .prompts import Prompt
from .tasks_file import Task
from .towers import build_towers, input_side, open_clip

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def crop_side(args: argparse.Namespace) -> int:
    """The side of the crops, px: --side, else what the tower reads."""
    return args.side or input_side(args.model)


def build_network(args: argparse.Namespace, task: Task, faces: TrainingFaces) -> NumCLIP:
    """The network of the flags, with every weight it starts from; raises UsageError or ModelError."""
    method, side = method_of(args, task), faces.inner
    task = task.with_ranks() if method.ranks else task
    own = side == input_side(args.model)
    towers = build_towers(args.model, args.pretrained, _pictures(faces, side), side=None if own else side)
    if args.normalisation == "imagenet":
        mean, std = IMAGENET
        towers.record.update(image_mean=list(mean), image_std=list(std))
    length = towers.text.positional_embedding.shape[0]
    tokenize = open_clip.get_tokenizer(args.model, context_length=length)
    sentence = (task.context, task.spec.words, length, method.base_ranks)
    prompt = Prompt.from_words(tokenize, towers.token_embedding, *sentence)
    network = NumCLIP(task, towers, prompt, method)
    if args.start is not None:
        start_from(network, args.start)
    if args.logit_scale is not None:
        nn.init.constant_(network.logit_scale, math.log(args.logit_scale))
    if args.checkpoint_gradients:
        for tower in (network.image_tower, network.text_tower.transformer):
            checkpoint_gradients(tower)
    return network


def checkpoint_gradients(tower: nn.Module) -> None:
    """Compute a tower's inner activations again on the way back instead of keeping them."""
    if hasattr(tower, "set_grad_checkpointing"):
        tower.set_grad_checkpointing(True)  # pyright: ignore[reportCallIssue]
    elif hasattr(tower, "grad_checkpointing"):
        tower.grad_checkpointing = True
    else:
        raise ModelError("--checkpoint-gradients: this tower has no such switch; leave it out")


def start_from(network: NumCLIP, path: Path) -> None:
    """Take over all weights of a checkpoint. Its crops may have another side, its image tower fewer residual blocks.

    A block that the checkpoint lacks begins as the identity (the weight of its last norm is zero), so that the deeper
    network answers what the shallower one did, and learns from there.
    """
    trained, _ = load_checkpoint(path)
    added = _added_blocks(network.image_tower, set(trained.image_tower.state_dict()))
    try:
        missing, unknown = network.load_state_dict(trained.state_dict(), strict=False)
    except RuntimeError as error:
        _misfit(path, str(error).splitlines()[-1].strip())
    prefixes = tuple(f"image_tower.{name}." for name in added)
    strange = [*unknown, *(name for name in missing if not name.startswith(prefixes))]
    if strange:
        _misfit(path, f"{strange[0]} is in one of them only")
    for block in added.values():
        nn.init.zeros_(block.bn3.weight)
    network.record |= {name: trained.record[name] for name in ("pretrained", "language_pretrained")}


def _added_blocks(tower: nn.Module, known: set[str]) -> dict[str, Any]:
    """By name, the residual blocks of an image tower that no known weight belongs to."""
    blocks = {name: block for name, block in tower.named_modules() if getattr(block, "has_skip", False)}
    return {name: block for name, block in blocks.items() if not any(k.startswith(f"{name}.") for k in known)}


def _misfit(path: Path, reason: str) -> NoReturn:
    raise ModelError(
        f"--start {path}: expected the same network, with another side or more residual blocks at most: {reason}"
    )


def _pictures(faces: TrainingFaces, side: int) -> torch.Tensor:
    """uint8 [64, S, S, 3] contract crops, evenly from all faces."""
    start = (faces.parts[0].shape[1] - side) // 2
    chosen = np.linspace(0, len(faces) - 1, 64).astype(int)
    return torch.from_numpy(np.stack([faces.crop(int(i))[start : start + side, start : start + side] for i in chosen]))
