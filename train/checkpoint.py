"""Checkpoints: one file with the trained weights in half precision and everything needed to rebuild the network.

A checkpoint is a .safetensors file whose metadata has one key, `numclip`, with a CheckpointRecord as JSON. The state that
`--resume` needs is a separate file, `last.pt` (torch, read with weights_only=True).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import ModelError, OutputError
from .network import NumCLIP
from .prompts import Prompt
from .records import SCHEMA_VERSION, CheckpointRecord, PromptRecord, TrainingRecord, from_json, to_json
from .towers import rebuild_towers


def save_checkpoint(path: Path, network: NumCLIP, training: TrainingRecord) -> None:
    """Write weights (float16) and record to a temporary file, then rename it; raises OutputError."""
    prompt = PromptRecord(len(network.prompt.context), tuple(network.prompt.counts), network.prompt.base_ranks)
    content = CheckpointRecord(network.task, network.method, network.record, prompt, training)
    tensors = {
        name: tensor.half().contiguous() if tensor.is_floating_point() else tensor.contiguous()
        for name, tensor in network.state_dict().items()
    }
    temporary = path.with_name(f".{path.name}.part")
    try:
        save_file(tensors, temporary, metadata={"numclip": json.dumps(to_json(content))})
        os.replace(temporary, path)
    except (SafetensorError, OSError) as error:
        raise OutputError(
            f"{path}: cannot be written ({error}); free space or give another --out, then start again"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> tuple[NumCLIP, TrainingRecord]:
    """Load the network (eval mode, float32) and its training record; raises ModelError with the reason."""
    record = read_record(path)
    towers = rebuild_towers(record.towers)
    length, width = towers.text.positional_embedding.shape
    try:
        prompt = Prompt(length, list(record.prompt.counts), record.prompt.context, width, record.prompt.base_ranks)
        network = NumCLIP(record.task, towers, prompt, record.method)
        with safe_open(path, "pt") as file:
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"{path}: expected a complete numclip checkpoint, got an error: {str(error)[:200]}; copy it again, or train again"
        ) from None
    return network.float().eval(), record.training


def read_record(path: Path) -> CheckpointRecord:
    """Read a checkpoint's record without its weights; raises ModelError."""
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("numclip")
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path}: expected a numclip checkpoint (.safetensors), but the file cannot be read ({error}); correct the path, or "
            "copy the file again"
        ) from None
    if text is None:
        raise ModelError(
            f"{path}: expected a numclip checkpoint, got a .safetensors file without numclip's metadata; "
            "give a file that numclip train wrote"
        )
    try:
        content = json.loads(text)
        got = content.get("schema_version") if isinstance(content, dict) else None
        if got != SCHEMA_VERSION:
            raise ModelError(
                f"{path}: expected checkpoint schema_version {SCHEMA_VERSION}, got {got}; "
                "use the numclip version that wrote the file"
            )
        return from_json(CheckpointRecord, content, "checkpoint")
    except ValueError as error:
        raise ModelError(
            f"{path}: expected a complete numclip checkpoint, got an error: {str(error)[:200]}; copy it again, or train again"
        ) from None


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


# What reading a file raises that torch.save did not write, or that holds something else.
STATE_FAULTS = (OSError, EOFError, UnpicklingError, RuntimeError, LookupError, TypeError, ValueError, AttributeError)


@contextmanager
def reading_state(path: Path) -> Generator[None]:
    """While a training state is read: raise ModelError if the file is damaged or holds something else."""
    try:
        yield
    except STATE_FAULTS as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise ModelError(
            f"{path}: expected the state of a training, got an error: {reason}; delete the file to start that training again, or "
            "give another --out"
        ) from None


def save_state(path: Path, state: Mapping[str, object]) -> None:
    """Write a training state atomically; raises OutputError."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        torch.save(dict(state), temporary)
        os.replace(temporary, path)
    except (RuntimeError, OSError) as error:
        again = "continue with --resume" if path.is_file() else "start again"
        raise OutputError(f"{path}: cannot be written ({str(error)[:200]}); free space, then {again}") from None
    finally:
        temporary.unlink(missing_ok=True)
