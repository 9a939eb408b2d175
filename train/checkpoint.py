"""Checkpoints: the trained weights in half precision, and everything needed to build the network again, in one file.

A checkpoint is a .safetensors file whose metadata holds one JSON text under `numclip`. The state from which a training
continues exactly lies apart, in `last.pt` (torch, read with weights_only=True).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import ModelError
from ..runtime.contract.spec import BoxRule, TaskSpec
from .method import Method
from .network import NumCLIP
from .prompts import Prompt
from .tasks_file import Task, released_of
from .towers import rebuild_towers

SCHEMA_VERSION = 1


def save_checkpoint(path: Path, network: NumCLIP, training: dict[str, Any]) -> None:
    """Write weights (float16) and record; under a temporary name first. `training`: data, metrics, versions, command."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "task": _task_to_json(network.task),
        "method": network.method.to_json(),
        "towers": network.record,
        "prompt": {
            "context": len(network.prompt.context),
            "counts": network.prompt.counts,
            "base_ranks": network.prompt.base_ranks,
        },
        "training": training,
    }
    tensors = {
        name: tensor.half().contiguous() if tensor.is_floating_point() else tensor.contiguous()
        for name, tensor in network.state_dict().items()
    }
    temporary = path.with_name(f".{path.name}.part")
    try:
        save_file(tensors, temporary, metadata={"numclip": json.dumps(content)})
        os.replace(temporary, path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be written ({error}); free space, then say --resume") from None
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> tuple[NumCLIP, dict[str, Any]]:
    """The network in eval mode and float32, and its training record; raises ModelError saying what is wrong."""
    content = read_record(path)
    try:
        task, method = _task_from_json(content["task"]), Method.from_json(content["method"])
        towers = rebuild_towers(content["towers"])
        counts, context = [int(n) for n in content["prompt"]["counts"]], int(content["prompt"]["context"])
        length, width = towers.text.positional_embedding.shape
        prompt = Prompt(length, counts, context, width, int(content["prompt"].get("base_ranks", 0)))
        network = NumCLIP(task, towers, prompt, method)
        with safe_open(path, "pt") as file:
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"{path}: expected a whole numclip checkpoint, failed at {str(error)[:200]}") from None
    return network.float().eval(), content["training"]


def read_record(path: Path) -> dict[str, Any]:
    """What a checkpoint says about itself, without its weights."""
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("numclip")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: expected a numclip checkpoint (.safetensors), it cannot be read ({error})") from None
    if text is None:
        raise ModelError(f"{path}: expected a numclip checkpoint, this .safetensors is another project's")
    content: dict[str, Any] = json.loads(text)
    if content.get("schema_version") != SCHEMA_VERSION:
        got = content.get("schema_version")
        raise ModelError(f"{path}: expected checkpoint schema_version {SCHEMA_VERSION}, got {got}; use its numclip")
    return content


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        torch.save(state, temporary)
        os.replace(temporary, path)
    except (RuntimeError, OSError) as error:
        raise ModelError(f"{path}: cannot be written ({str(error)[:200]}); free space, then say --resume") from None
    finally:
        temporary.unlink(missing_ok=True)


def _task_to_json(task: Task) -> dict[str, Any]:
    return asdict(task)


def _task_from_json(raw: dict[str, Any]) -> Task:
    spec = TaskSpec(**raw["spec"])
    return Task(
        replace(spec, bin_edges=tuple(spec.bin_edges), words=tuple(spec.words)),
        raw["context"],
        tuple((float(x), float(y)) for x, y in raw["landmarks"]),
        {name: BoxRule(**rule) for name, rule in raw["box_rules"].items()},
        str(raw.get("words_by", "ours")),
        released_of(raw.get("released"), len(spec.words)),
    )
