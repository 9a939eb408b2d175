"""Freeze a checkpoint into one self-describing .onnx, proven on real faces in the task's unit.

The text bins are computed once and become constants; the file takes uint8 crops and answers value, probabilities and
embedding. PyTorch and the written file are then run on real faces: if they differ by more than --limit, nothing is written.

--precision fp16 writes a typed graph: the trunk in half, norms, softmax and head in float32. Its proof is the half module
itself in PyTorch, which rounds at every operation; a CPU runtime would compute it in float32. --widen keeps in float32 the
layers that overflow or round too much in half, and names them. --storage fp16 halves the file of a float32 graph: weights are
stored in half and cast when the file is opened; arithmetic stays float32.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..calibration.data.datasets import LICENCES, Dataset, open_data
from ..calibration.measure.evaluation import metric_of
from ..calibration.measure.parity import difference, proof_faces
from ..calibration.measure.predictor import answers
from ..calibration.widening import Widened
from ..deploy.triton import write_repository
from ..errors import UsageError
from ..runtime.contract.licences import Licence, Licences, combined
from ..runtime.contract.measured import ParityRow
from ..runtime.contract.model_file import write_spec
from ..runtime.contract.provenance import Provenance
from ..runtime.contract.spec import ModelSpec
from ..runtime.places import write_whole
from ..runtime.sessions.model import Model
from ..runtime.sessions.opening import open_session
from ..train.checkpoint import file_sha256, load_checkpoint
from ..train.checkpoint_model import TorchSession, checkpoint_spec
from ..train.network import NumCLIP
from .exact_half import fold_factors, store_half
from .frozen import Frozen
from .half_proof import check, proven_half

OPSET = 18
PARITY_FACES = 256
CODE_LICENCE = "Apache-2.0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip export`."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a .safetensors that numclip train wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.onnx", help="the model file to write")
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="DATA", help="real faces: proof on val, error on test"
    )
    parser.add_argument("--precision", choices=["fp32", "fp16"], default="fp32", help="of the arithmetic")
    parser.add_argument("--storage", choices=["fp32", "fp16"], default="fp32", help="of the weights in a float32 file")
    parser.add_argument("--widen", action="store_true", help="with fp16: keep in float32 the layers that need it")
    parser.add_argument(
        "--limit", type=float, help="largest difference allowed, in the task's unit (0.02; fp16: mean 0.1, p99 0.5)"
    )
    parser.add_argument("--triton", type=Path, metavar="DIR", help="also write a Triton model repository there")
    parser.add_argument("--backbone-licence", default=None, help="licence of the weights the image tower started from")


def run(args: argparse.Namespace) -> int:
    """Freeze, prove, measure, write; and say what to type next."""
    if args.precision == "fp16" and args.storage == "fp16":
        raise UsageError("--storage fp16 is for float32 arithmetic; --precision fp16 already stores half weights")
    if args.widen and args.precision != "fp16":
        raise UsageError("--widen keeps layers of a half graph in float32; say --precision fp16 with it")
    network, training = load_checkpoint(args.checkpoint)
    data = [open_data(text) for text in args.data]
    spec = checkpoint_spec(network, args.out.stem)
    proof = proof_faces(data, spec, PARITY_FACES)
    reference = answers(TorchSession(network), proof.crops)
    frozen, wide = Frozen(network).eval(), Widened((), {})
    parity: dict[str, ParityRow] = {}
    if args.precision == "fp16":
        half, wide = proven_half(frozen, spec, proof, reference, args.limit, args.widen)
        parity = {"fp16": half.row}
        frozen = half.network
    with tempfile.TemporaryDirectory(prefix="numclip-export-") as folder:
        draft = Path(folder) / args.out.name
        to_onnx(frozen, draft, int(network.record["image_side"]), half_weights=args.storage == "fp16")
        write_spec(draft, spec)
        session = open_session(draft, spec, "cpu")
        found = difference(answers(session, proof.crops), reference, proof.labels)
        if args.precision == "fp32":
            check(found, "fp32", spec, args.limit)
            parity = {"fp32": found.row(spec.task, proof.said, "PyTorch")}
        spec = replace(
            spec,
            parity=parity,
            metrics=tuple(metric_of(Model(spec, session), d) for d in data),
            graph=replace(spec.graph, **size_of(network), precision=args.precision, storage=args.storage),
            provenance=replace(_provenance(args, network, training), kept_float32=wide.kept),
            licences=_licences(network, data, args.backbone_licence),
        )
        write_spec(draft, spec)
        write_whole(args.out, draft.read_bytes())
    print(_summary(spec, args.out))
    if args.triton:
        write_repository(args.triton, args.out, spec)
        print(f"{args.triton}: a Triton model repository")
    print(f"next: numclip run 0 --model {args.out} --show")
    return 0


def to_onnx(frozen: Frozen, path: Path, side: int, half_weights: bool = False) -> None:
    """Write a frozen graph, with a dynamic number of faces, as one .onnx without a spec.

    side: S of the crops. half_weights: float32 weights are stored as half numbers that give them exactly (exact_half.py).
    """
    crops = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
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
    for node in model.graph.node:  # the exporter's notes on every node: source lines and machine paths
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    for initializer in model.graph.initializer:
        del initializer.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]  # shapes that every runtime infers again
    if half_weights:
        store_half(model, fold_factors(frozen))
    onnx.checker.check_model(model)
    write_whole(path, model.SerializeToString())


def size_of(network: NumCLIP) -> dict[str, int]:
    """Parameters of the frozen graph, and multiply-adds for one face (convolutions and matrix products)."""
    frozen = Frozen(network).eval()
    side = int(network.record["image_side"])
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        frozen(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    parameters = sum(p.numel() for p in frozen.parameters()) + frozen.scaled_bins.numel()
    return {"parameters": parameters, "multiply_adds": counter.get_total_flops() // 2}


def _provenance(args: argparse.Namespace, network: NumCLIP, training: dict[str, Any]) -> Provenance:
    packages = ("torch", "open_clip_torch", "timm", "onnx", "onnxscript", "onnxruntime")
    record = network.record
    return Provenance(
        backbone=record["config"]["vision_cfg"].get("timm_model_name") or record["name"],
        pretrained=record["pretrained"],
        language_pretrained=record["language_pretrained"],
        method=network.method.to_json(),
        context=network.task.context,
        checkpoint_sha256=file_sha256(args.checkpoint),
        training=training,
        versions={"python": platform.python_version(), **{p: version(p) for p in packages}},
        command=f"numclip export {args.checkpoint.name} --out {args.out.name} --data "
        + " ".join(f"{k}:{Path(p).name}" for k, _, p in (d.partition(":") for d in args.data)),
    )


def _licences(network: NumCLIP, data: list[Dataset], backbone: str | None) -> Licences:
    data_terms, started = [LICENCES[d.kind] for d in data], network.record["pretrained"]
    backbone = backbone or (f"that of {started}" if started else None)
    return Licences(
        code=Licence(CODE_LICENCE),
        weights=Licence(combined(data_terms).spdx, "as the training data allow"),
        backbone=None if backbone is None else Licence.from_text(backbone),
        data=combined(data_terms),
    )


def _summary(spec: ModelSpec, path: Path) -> str:
    row, kept = spec.parity[spec.graph.precision], spec.provenance.kept_float32 or ()
    lines = [
        f"{path}: {path.stat().st_size / 1e6:.1f} MB, differs from PyTorch by {row.mean:.5f} {row.unit} in the mean, "
        f"at most {row.max:.5f}, on {row.n} faces"
    ]
    lines += [f"  kept in float32: {', '.join(kept)}"] if kept else []
    lines += [f"  {m.data} {m.split}: MAE {m.mae:.2f} {spec.task.unit}, n {m.n}" for m in spec.metrics]
    return "\n".join(lines)
