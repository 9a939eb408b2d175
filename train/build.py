"""Build the network to train from the options: towers, prompt, method and start weights."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..errors import ModelError
from .batches import TrainingFaces
from .checkpoint import load_checkpoint
from .method import Method
from .network import NumCLIP
from .options import TrainOptions
from .prompts import Prompt
from .slim_mobilenet import narrowed
from .tasks_file import Task
from .towers import Towers, build_towers, input_side, open_clip

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def build_network(options: TrainOptions, task: Task, faces: TrainingFaces) -> NumCLIP:
    """Build the network that the options describe and load its start weights; raises UsageError or ModelError."""
    own = faces.inner == input_side(options.model)
    towers = build_towers(options.model, options.pretrained, _pictures(faces), side=None if own else faces.inner)
    if options.normalisation == "imagenet":
        mean, std = IMAGENET
        towers = replace(towers, record=replace(towers.record, image_mean=mean, image_std=std))
    network = from_towers(towers, task, options.build_method(task))
    if options.start is not None:
        start_from(network, options.start)
    if options.logit_scale is not None:
        nn.init.constant_(network.logit_scale, math.log(options.logit_scale))
    if options.checkpoint_gradients:
        for tower in (network.image_tower, network.text_tower.transformer):
            checkpoint_gradients(tower)
    return network


def from_towers(towers: Towers, task: Task, method: Method) -> NumCLIP:
    """Build a network whose prompt is the task's sentences, embedded by the text tower's own token embedding."""
    task = task.with_ranks() if method.ranks else task
    length = towers.text.positional_embedding.shape[0]
    tokenize = open_clip.get_tokenizer(towers.record.name, context_length=length)
    sentence = (task.context, task.spec.words, length, method.base_ranks)
    return NumCLIP(task, towers, Prompt.from_words(tokenize, towers.token_embedding, *sentence), method)


def checkpoint_gradients(tower: nn.Module) -> None:
    """Recompute a tower's activations in the backward pass instead of storing them."""
    switch = getattr(tower, "set_grad_checkpointing", None)
    if callable(switch):
        switch(True)
    elif hasattr(tower, "grad_checkpointing"):
        setattr(tower, "grad_checkpointing", True)  # noqa: B010  (Module's stubs allow only tensors and modules)
    else:
        raise ModelError(
            "--checkpoint-gradients: this tower does not support gradient checkpointing; leave the flag out"
        )


def start_from(network: NumCLIP, path: Path) -> None:
    """Load all weights of a checkpoint; its crops may have a different size, and those of a tower `small` are cut for `slim`."""
    trained, _ = load_checkpoint(path)
    weights = trained.state_dict()
    if (trained.record.name, network.record.name) == ("small", "slim"):
        weights = narrowed(weights)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(
            f"--start {path}: expected the same network (only the crop size may differ, or slim from small), got: {reason}; "
            "give the --model of that checkpoint"
        ) from None
    began = trained.record
    network.record = replace(network.record, pretrained=began.pretrained, language_pretrained=began.language_pretrained)


def _pictures(faces: TrainingFaces) -> torch.Tensor:
    """Return 64 contract crops spread evenly over all faces, uint8 [64, S, S, 3]."""
    side = faces.inner
    start = (faces.parts[0].shape[1] - side) // 2
    chosen = np.linspace(0, len(faces) - 1, 64).astype(int)
    return torch.from_numpy(np.stack([faces.crop(int(i))[start : start + side, start : start + side] for i in chosen]))
