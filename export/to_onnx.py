"""Freeze a checkpoint into one self-describing .onnx, proven on real faces in the task's unit.

The text bins are computed once and become constants; the file takes uint8 crops and answers value, probabilities and
embedding. PyTorch and the written file are then run on real faces: if any value differs by more than --limit, nothing is
written.
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

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..calibration.crop_cache import face_crops
from ..calibration.datasets import LICENCES, Dataset, open_data
from ..calibration.evaluate import predict_dataset, report
from ..errors import ModelError
from ..runtime.model import Model
from ..runtime.model_file import write_spec, write_whole
from ..runtime.sessions import open_session
from ..runtime.spec import ModelSpec
from ..train.checkpoint import file_sha256, load_checkpoint
from ..train.checkpoint_model import TorchSession, checkpoint_spec
from ..train.network import NumCLIP
from .frozen import Frozen

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
    parser.add_argument("--limit", type=float, default=0.02, help="largest difference allowed, in the task's unit")
    parser.add_argument("--backbone-licence", default=None, help="licence of the weights the image tower started from")


def run(args: argparse.Namespace) -> int:
    """Freeze, prove, measure, write; and say what to type next."""
    network, training = load_checkpoint(args.checkpoint)
    data = [open_data(text) for text in args.data]
    spec = checkpoint_spec(network, args.out.stem)
    with tempfile.TemporaryDirectory(prefix="numclip-export-") as folder:
        draft = Path(folder) / args.out.name
        to_onnx(network, draft)
        write_spec(draft, spec)
        model = Model(spec, open_session(draft, spec, "cpu"))
        parity = parity_on(network, model, data, args.limit)
        spec = replace(
            spec,
            parity={"fp32": parity},
            metrics=[_metrics(model, d) for d in data],
            graph={**spec.graph, **size_of(network)},
            provenance=_provenance(args, network, training),
            licences=_licences(network, data, args.backbone_licence),
        )
        write_spec(draft, spec)
        write_whole(args.out, draft.read_bytes())
    print(_summary(spec, args.out))
    print(f"next: numclip run 0 --model {args.out} --show")
    return 0


def to_onnx(network: NumCLIP, path: Path) -> None:
    """Write the frozen graph of a network, with a dynamic number of faces, as one .onnx without a spec."""
    frozen = Frozen(network).eval()
    side = int(network.record["image_side"])
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
    onnx.checker.check_model(model)
    write_whole(path, model.SerializeToString())


def parity_on(network: NumCLIP, model: Model, data: list[Dataset], limit: float) -> dict[str, Any]:
    """Differences between PyTorch (text tower and all) and the file on real faces; raises ModelError above the limit."""
    each = -(-PARITY_FACES // len(data))
    crops = np.concatenate([_faces(d, model.spec, each) for d in data])[:PARITY_FACES]
    reference = Model(model.spec, TorchSession(network))
    expected, got = ([m(crops[i : i + 64]) for i in range(0, len(crops), 64)] for m in (reference, model))
    difference = np.abs(np.concatenate([r.value for r in expected]) - np.concatenate([r.value for r in got]))
    worst = float(difference.max())
    if not worst <= limit:
        unit = model.spec.task.unit
        raise ModelError(
            f"expected the file to agree with PyTorch within {limit} {unit}, got {worst:.4f} on {len(crops)} faces; "
            "nothing was written: report the versions of torch and onnxruntime"
        )
    return {
        "mean": float(difference.mean()),
        "p99": float(np.quantile(difference, 0.99)),
        "max": worst,
        "n": len(crops),
        "faces": "val of " + ", ".join(_short(d) for d in data),
        "unit": model.spec.task.unit,
    }


def _faces(dataset: Dataset, spec: ModelSpec, n: int) -> npt.NDArray[np.uint8]:
    split = "val" if any(s.split == "val" for s in dataset.samples) else "all"
    chosen = dataset.select(split)
    return np.array(face_crops(chosen, spec.crop).crops[:n])


def _metrics(model: Model, dataset: Dataset) -> dict[str, Any]:
    split = "test" if any(s.split == "test" for s in dataset.samples) else "all"
    full = report(predict_dataset(model, dataset.select(split)), {})
    return {"data": _short(dataset), "split": split, **{k: full[k] for k in ("n", "skipped", "mae", "cs5", "bias")}}


def size_of(network: NumCLIP) -> dict[str, int]:
    """Parameters of the frozen graph, and multiply-adds for one face (convolutions and matrix products)."""
    frozen = Frozen(network).eval()
    side = int(network.record["image_side"])
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        frozen(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    parameters = sum(p.numel() for p in frozen.parameters()) + frozen.scaled_bins.numel()
    return {"parameters": parameters, "multiply_adds": counter.get_total_flops() // 2}


def _provenance(args: argparse.Namespace, network: NumCLIP, training: dict[str, Any]) -> dict[str, Any]:
    packages = ("torch", "open_clip_torch", "timm", "onnx", "onnxscript", "onnxruntime")
    record = network.record
    return {
        "backbone": record["config"]["vision_cfg"].get("timm_model_name") or record["name"],
        "pretrained": record["pretrained"],
        "language_pretrained": record["language_pretrained"],
        "method": network.method.to_json(),
        "context": network.task.context,
        "checkpoint_sha256": file_sha256(args.checkpoint),
        "training": training,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "command": f"numclip export {args.checkpoint.name} --out {args.out.name} --data "
        + " ".join(f"{k}:{Path(p).name}" for k, _, p in (d.partition(":") for d in args.data)),
    }


def _licences(network: NumCLIP, data: list[Dataset], backbone: str | None) -> dict[str, str]:
    terms = sorted({LICENCES[d.kind] for d in data})
    research = any("research" in t for t in terms)
    started = network.record["pretrained"]
    return {
        "code": CODE_LICENCE,
        "weights": "research use only, because of the training data" if research else "as the training data allow",
        "backbone": backbone or (f"that of {started}" if started else "none: trained from random weights"),
        "data": "; ".join(terms),
    }


def _short(dataset: Dataset) -> str:
    return f"{dataset.kind}:{dataset.path.name}"


def _summary(spec: ModelSpec, path: Path) -> str:
    fp32 = spec.parity["fp32"]
    lines = [
        f"{path}: {path.stat().st_size / 1e6:.1f} MB, differs from PyTorch by at most {fp32['max']:.5f} {fp32['unit']} "
        f"on {fp32['n']} faces"
    ]
    lines += [f"  {m['data']} {m['split']}: MAE {m['mae']:.2f} {spec.task.unit}, n {m['n']}" for m in spec.metrics]
    return "\n".join(lines)
