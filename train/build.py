"""A network to train, from the flags: towers, prompt, method, and the weights it starts from."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

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
    """Take over all weights of a checkpoint, whose crops may have another side."""
    trained, _ = load_checkpoint(path)
    try:
        network.load_state_dict(trained.state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"--start {path}: expected the same network, with another side at most: {reason}") from None
    network.record |= {name: trained.record[name] for name in ("pretrained", "language_pretrained")}


def _pictures(faces: TrainingFaces, side: int) -> torch.Tensor:
    """uint8 [64, S, S, 3] contract crops, evenly from all faces."""
    start = (faces.parts[0].shape[1] - side) // 2
    chosen = np.linspace(0, len(faces) - 1, 64).astype(int)
    return torch.from_numpy(np.stack([faces.crop(int(i))[start : start + side, start : start + side] for i in chosen]))
