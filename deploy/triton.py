"""A Triton model repository for one model.

    DIR/age/config.pbtxt        names, types, dynamic batching, warm-up
    DIR/age/1/model.onnx        or model.plan, from an engine

Triton adds the batch dimension itself; `value` has no other dimension, so its config reshapes it to none.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import OutputError, UsageError
from ..runtime.contract.model_file import read_spec, resolve
from ..runtime.contract.spec import ModelSpec
from ..runtime.places import write_whole
from ..runtime.sessions.engine_file import read_sidecar
from ..runtime.sessions.session import output_tensors

KINDS = {
    ".onnx": ("onnxruntime", "onnxruntime_onnx", "model.onnx"),
    ".engine": ("tensorrt", "tensorrt_plan", "model.plan"),
}
MAX_BATCH, QUEUE_DELAY_US = 32, 2000  # faces; longest wait of a request for others


def triton_repository(model: str | Path, out: Path, max_batch: int | None = None) -> Path:
    """Write a model, given by name or file, into the Triton repository `out`, and return its folder.

    max_batch: largest batch, in faces; None: 32, or for an engine the batch that it was built for. Raises UsageError, ModelError
    and OutputError.
    """
    path = resolve(model)
    if path.suffix not in KINDS:
        raise UsageError(f"expected a model as .onnx or .engine for Triton, got {path.name}; export it first")
    if max_batch is not None and max_batch < 1:
        raise UsageError(f"expected --max-batch to be at least 1, got {max_batch}")
    if path.suffix == ".onnx":
        return write_repository(out, path, read_spec(path), max_batch or MAX_BATCH)
    spec, built = read_sidecar(path)
    if max_batch is not None and max_batch > built.max_batch:
        raise UsageError(
            f"{path.name} was built for batches of up to {built.max_batch} faces, got --max-batch {max_batch}; build "
            "it again with a larger --max-batch"
        )
    return write_repository(out, path, spec, max_batch or built.max_batch)


def write_repository(folder: Path, model: Path, spec: ModelSpec, max_batch: int = MAX_BATCH) -> Path:
    """Write a model (.onnx or .engine) into the repository `folder`, and return its folder there; raises OutputError."""
    backend, platform, file_name = KINDS[model.suffix]
    place = folder / (spec.name if model.suffix == ".onnx" else f"{spec.name}-plan")
    try:
        (place / "1").mkdir(parents=True, exist_ok=True)
        write_whole(place / "1" / file_name, model.read_bytes())
        text = config(place.name, backend, platform, file_name, spec, max_batch)
        write_whole(place / "config.pbtxt", text.encode())
    except OSError as error:
        raise OutputError(f"cannot write {os.fspath(place)} ({error.strerror}); choose another folder") from None
    return place


def config(name: str, backend: str, platform: str, file_name: str, spec: ModelSpec, max_batch: int) -> str:
    """The text of config.pbtxt."""
    side, crops = spec.crop.side, spec.graph.input
    dims = f"dims: [ {side}, {side}, 3 ]"
    outputs = ",\n".join(f"  {_output(output, tensor.sizes)}" for output, tensor in output_tensors(spec).items())
    preferred = ", ".join(str(n) for n in sorted({min(8, max_batch), max_batch}))
    warmups = ",\n".join(
        f'  {{ name: "{n} faces" batch_size: {n} '
        f'inputs {{ key: "{crops}" value: {{ data_type: TYPE_UINT8 {dims} zero_data: true }} }} }}'
        for n in sorted({1, max_batch})
    )
    return f"""name: "{name}"
backend: "{backend}"
platform: "{platform}"
default_model_filename: "{file_name}"
max_batch_size: {max_batch}
input [
  {{ name: "{crops}" data_type: TYPE_UINT8 {dims} }}
]
output [
{outputs}
]
dynamic_batching {{ preferred_batch_size: [ {preferred} ] max_queue_delay_microseconds: {QUEUE_DELAY_US} }}
model_warmup [
{warmups}
]
"""


def _output(name: str, sizes: tuple[int | None, ...]) -> str:
    reshape = "" if sizes else " reshape: { shape: [ ] }"
    return f'{{ name: "{name}" data_type: TYPE_FP32 dims: [ {sizes[0] if sizes else 1} ]{reshape} }}'
