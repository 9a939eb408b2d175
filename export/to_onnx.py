"""Export a checkpoint to one self-describing .onnx file and check it on real faces, in the task's unit.

The text bins are computed once and become constants. The file takes uint8 crops and returns value, probabilities and
embedding. PyTorch and the new graph then run on real faces: if they differ by too much, nothing is written.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import onnx
import torch
from onnxruntime import InferenceSession
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..calibration.data.datasets import open_data
from ..calibration.measure.evaluation import metric_of
from ..calibration.measure.kept_proof import kept_proof
from ..calibration.measure.parity import PROOF_FACES, difference, faults, limits_for, proof_faces
from ..calibration.widening import Widened
from ..errors import DataError, ModelError, UsageError
from ..runtime.contract.model_file import KEY
from ..runtime.contract.provenance import Provenance
from ..runtime.contract.spec import ModelSpec
from ..runtime.places import check_output, write_whole
from ..runtime.sessions.model import Model
from ..runtime.sessions.onnx_graph import NOT_WANTED
from ..train.checkpoint import file_sha256, load_checkpoint, read_record
from ..train.checkpoint_model import TorchSession, checkpoint_spec, predict
from ..train.sources import licences_of
from .exact_half import fold_factors, store_half
from .frozen import Frozen
from .half_proof import proven_half, refusal

OPSET = 18
PACKAGES = ("torch", "open_clip_torch", "timm", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ExportOptions:
    """Options of `numclip.export.export`."""

    checkpoint: Path
    """A .safetensors checkpoint written by a training."""
    out: Path
    """Path of the .onnx file to write."""
    data: tuple[str, ...] = ()
    """DATA of real faces: the file is checked on their val split, and its error is measured on test. Empty: it is checked on the
    faces that the training stored in this machine's cache."""
    precision: Literal["fp32", "fp16"] = "fp32"
    """Precision of the arithmetic."""
    storage: Literal["fp32", "fp16"] = "fp32"
    """Storage of the weights of a float32 graph; fp16 stores a weight as float16 if that is exact."""
    widen: bool = False
    """With precision fp16: keep in float32 the layers that need it."""
    max_difference: float | None = None
    """Largest difference allowed, in the task's unit; None: the precision's own limits."""
    without_embedding: bool = False
    """Leave the embedding out of the outputs, so that nobody can match faces with it."""
    backbone_licence: str | None = None
    """Licence of the start weights, for a checkpoint that does not record it."""


def export(options: ExportOptions) -> ModelSpec:
    """Export, check, measure and write; returns the spec in the written file.

    Raises UsageError, DataError or ModelError; nothing is written in that case.
    """
    if options.precision == "fp16" and options.storage == "fp16":
        raise UsageError(
            "expected --storage fp16 with --precision fp32, got --precision fp16, which stores float16 weights anyway; "
            "leave --storage out"
        )
    if options.widen and options.precision != "fp16":
        raise UsageError("expected --precision fp16 with --widen, got fp32; add --precision fp16, or leave --widen out")
    network, training = load_checkpoint(options.checkpoint)
    record, spec = read_record(options.checkpoint), checkpoint_spec(network, options.out.stem)
    sha256, licences = file_sha256(options.checkpoint), licences_of(record, options.backbone_licence)
    check_output(options.out)
    data = [open_data(text) for text in options.data]
    for dataset in data:
        dataset.check_labels(spec.task)
    proof = proof_faces(data, spec, PROOF_FACES) if data else kept_proof(sha256)
    if proof is None:
        raise DataError(
            f"{options.checkpoint}: expected the faces that its training stored for this check, found none in this machine's "
            "cache; give labelled faces with --data"
        )
    reference = predict(network, spec.task, proof.crops)
    frozen, wide, found = Frozen(network).eval(), Widened((), {}), None
    sizes = size_of(frozen, spec.crop.side)
    if options.precision == "fp16":
        half, wide = proven_half(frozen, spec, proof, reference, options.max_difference, options.widen)
        frozen, found = half.network, half.found
    model = to_onnx(frozen, spec.crop.side, half_weights=options.storage == "fp16")
    opened = in_onnx_runtime(model)
    if found is None:
        limits = limits_for("fp32", spec.task, options.max_difference)
        found = difference(predict(opened, spec.task, proof.crops), reference, proof.labels)
        missed = faults(found, limits, spec.task.unit)
        if missed:
            raise ModelError(f"{refusal(found, 'fp32', missed)}; raise --max-difference, or train again")
    backbone = record.towers.config["vision_cfg"]
    assert isinstance(backbone, dict)
    names = [f"{kind}:{Path(path).name}" for kind, _, path in (text.partition(":") for text in options.data)]
    command = [
        "numclip export",
        options.checkpoint.name,
        "--out",
        options.out.name,
        *(["--data", *names] if names else []),
    ]
    spec = replace(
        spec,
        parity={options.precision: found.row(spec.task, proof.said, "PyTorch")},
        metrics=tuple(metric_of(Model(spec, TorchSession(opened, spec.task)), dataset) for dataset in data),
        graph=replace(spec.graph, **sizes, precision=options.precision, storage=options.storage),
        provenance=Provenance(
            backbone=str(backbone.get("timm_model_name") or record.towers.name),
            pretrained=record.towers.pretrained,
            language_pretrained=record.towers.language_pretrained,
            method=asdict(record.method),
            context=record.task.context,
            checkpoint_sha256=sha256,
            training={name: value for name, value in asdict(training).items() if value is not None},
            versions={"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
            command=" ".join(command),
            kept_float32=wide.kept,
        ),
        licences=licences,
    )
    if options.without_embedding:
        model, spec = _without_embedding(model, spec)
    model.metadata_props.add(key=KEY, value=spec.to_json())
    write_whole(options.out, model.SerializeToString())
    return spec


def to_onnx(frozen: Frozen, side: int, half_weights: bool = False) -> onnx.ModelProto:
    """Convert a frozen network, with a dynamic number of faces, to an ONNX model without a spec.

    side: crop side S, px. half_weights: store float32 weights as float16 where that is exact (exact_half.py).
    """
    crops = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation warnings inside the exporter
        program = torch.onnx.export(
            frozen,
            (crops,),
            input_names=["crops"],
            output_names=["value", "probabilities", "embedding"],
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("faces", min=1, max=4096)},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    del model.metadata_props[:]
    for node in model.graph.node:  # remove the exporter's notes on every node: source lines and local paths
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    for initializer in model.graph.initializer:
        del initializer.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]  # every runtime infers these shapes itself
    if half_weights:
        store_half(model, fold_factors(frozen))
    onnx.checker.check_model(model)
    return model


def _without_embedding(model: onnx.ModelProto, spec: ModelSpec) -> tuple[onnx.ModelProto, ModelSpec]:
    """Return the graph and the spec without the embedding output."""
    (output,) = [output for output in model.graph.output if output.name == spec.graph.embedding]
    model.graph.output.remove(output)
    onnx.checker.check_model(model)
    parity = {precision: replace(row, cosine=None) for precision, row in spec.parity.items()}
    return model, replace(spec, graph=replace(spec.graph, embedding_dim=0), parity=parity)


def size_of(frozen: Frozen, side: int) -> dict[str, int]:
    """Return the parameters of the frozen graph and its multiply-adds per face (convolutions and matrix products)."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        frozen(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    parameters = sum(p.numel() for p in frozen.parameters()) + frozen.scaled_bins.numel()
    return {"parameters": parameters, "multiply_adds": counter.get_total_flops() // 2}


def in_onnx_runtime(model: onnx.ModelProto) -> Callable[[Tensor], list[Tensor]]:
    """Open a model in ONNX Runtime on the CPU, optimised as in a session, as a function that `predict` can run."""
    try:
        session = InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"], disabled_optimizers=NOT_WANTED
        )
    except Exception as error:  # onnxruntime's exceptions have no common base class
        reason = str(error).splitlines()[0][:200]
        raise ModelError(
            f"ONNX Runtime cannot open the graph ({reason}); nothing was written; report this as a bug, with the output of "
            "numclip doctor --json -"
        ) from None
    names = ["value", "probabilities", "embedding"]
    return lambda crops: [torch.from_numpy(answer) for answer in session.run(names, {"crops": crops.numpy()})]
