"""Static INT8 of a model file, from the ranges that faces of the calibration split show, proven in the task's unit.

Weights are int8 per channel. Two flavours, because no one form is right everywhere:

    cpu       unsigned activations: fast on ONNX Runtime's CPU; TensorRT's parser refuses it. Small: what stays float is
              stored in 8 or 16 bits too, and computed in float32
    tensorrt  symmetric signed activations, float biases: builds on TensorRT, fast on OpenVINO

The head (adapter, text bins, refinement) is always computed in float. Then the file answers for faces of the val split; if it
differs by more than the limits for INT8, nothing is written. --widen keeps as many layers in float as are needed.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import logging
import sys
import tempfile
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry
from tqdm import tqdm

from ..errors import ModelError, UsageError
from ..runtime.contract.model_file import graph_sha256, read_spec, resolve, write_spec
from ..runtime.contract.spec import ModelSpec
from ..runtime.places import write_json, write_whole
from ..runtime.sessions.session import Outputs, open_session
from .data.datasets import Dataset, open_data
from .measure.evaluate import predict_dataset, report
from .measure.parity import ProofFaces, answers, difference, excess, faults, limits_for, precision_of, proof_faces
from .widen import Widened, widen

FLAVOURS = ("cpu", "tensorrt")
RANGES = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
PERCENTILE = 99.99
RANGE_BATCH = 16
RANKING_FACES = 100
WEIGHTED = ("Conv", "MatMul", "Gemm")
TRANSFORMER_OPS = (
    "Conv",
    "MatMul",
    "Gemm",
)  # around LayerNorm and softmax a tensor in 8 bits costs years and gains no time
SMALL_TENSOR, LARGE_MATRIX = 256, 1 << 15  # elements: below the first, narrow storage saves nothing


@dataclass(frozen=True, eq=False)
class Plan:
    """A float graph ready to be quantized: what its layers are, what must stay float, and the measured ranges."""

    graph: onnx.ModelProto
    flavour: str
    ranges: Any  # TensorsData
    layers: dict[str, str]  # name for people: node name
    fixed: tuple[str, ...]  # nodes that stay float whatever happens
    head: frozenset[str]  # those of them behind the image tower's last layer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip quantize`."""
    parser.add_argument("model", metavar="MODEL", help="a model's name or a float .onnx")
    parser.add_argument("--data", nargs="+", required=True, metavar="DATA", help="real faces: ranges, proof and error")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.onnx", help="the INT8 file to write")
    parser.add_argument("--flavour", choices=FLAVOURS, default="cpu", help="what will run it")
    parser.add_argument("--ranges", choices=list(RANGES), default="minmax", help="how a tensor's range is chosen")
    parser.add_argument("--faces", type=int, default=512, help="faces for the ranges, of split calibration (or all)")
    parser.add_argument("--proof-faces", type=int, default=1200, help="faces for the proof, of split val (or all)")
    parser.add_argument("--widen", action="store_true", help="keep in float the layers that need it, and name them")
    parser.add_argument("--json", metavar="FILE|-", help="parity, kept layers and each layer's harm as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Measure ranges, quantize, prove, write; and say what to type next."""
    if args.faces < 1 or args.proof_faces < 1:
        raise UsageError("expected --faces and --proof-faces above 0")
    path = resolve(args.model)
    spec = read_spec(path)
    if precision_of(spec) != "fp32":
        raise UsageError(
            f"{path}: expected a float32 model, this one is {precision_of(spec)}; give the file it came from"
        )
    data = [open_data(text) for text in args.data]
    split = "calibration" if all(any(s.split == "calibration" for s in d.samples) for d in data) else None
    range_faces, proof = proof_faces(data, spec, args.faces, split), proof_faces(data, spec, args.proof_faces)
    plan = make_plan(path, spec, range_faces.crops, args.flavour, args.ranges)
    trial = Trial(plan, spec, proof, answers(open_session(path, spec, "cpu"), proof.crops))
    widened = _widened(trial) if args.widen else Widened((), {})
    with tempfile.TemporaryDirectory(prefix="numclip-quantize-") as folder:
        draft = Path(folder) / args.out.name
        made = trial.checked(frozenset(widened.kept), draft, args)
        made = replace(made, metrics=[_metrics(made, draft, d) for d in data])
        write_spec(draft, made)
        write_whole(args.out, draft.read_bytes())
    said = {"parity": made.parity["int8"], "kept": list(widened.kept), "harm": widened.harm}
    if args.json:
        write_json(args.json, said)
    if args.json != "-":
        print(_summary(made, args.out, widened))
        print(f"next: numclip calibrate {args.out} --data {' '.join(args.data)}")
    return 0


@dataclass(frozen=True, eq=False)
class Trial:
    """Quantized graphs of one plan, judged on the same faces."""

    plan: Plan
    spec: ModelSpec
    proof: ProofFaces
    reference: Outputs

    def harm(self, kept: frozenset[str], every: int = 1) -> float:
        """The share of INT8's limits that the graph with these layers in float uses, on every so many-th face.

        On a few faces the change of the MAE is noise, so that it does not count there.
        """
        limits = limits_for("int8", self.spec.task)
        limits = limits if every == 1 else {"mean": limits["mean"]}
        labels, values = self.proof.labels[::every], self.reference.value[::every]
        reference = Outputs(values, self.reference.probabilities[::every], self.reference.embedding[::every])
        with tempfile.TemporaryDirectory(prefix="numclip-quantize-") as folder:
            draft = Path(folder) / "trial.onnx"
            write_whole(draft, quantized(self.plan, kept).SerializeToString())
            got = answers(open_session(draft, self.spec, "cpu"), self.proof.crops[::every])
        return excess(difference(got, reference, labels), limits)

    def checked(self, kept: frozenset[str], draft: Path, args: argparse.Namespace) -> ModelSpec:
        """Write the graph to `draft` and return its spec, or raise ModelError where it misses the limits."""
        task = self.spec.task
        write_whole(draft, quantized(self.plan, kept).SerializeToString())
        found = difference(
            answers(open_session(draft, self.spec, "cpu"), self.proof.crops), self.reference, self.proof.labels
        )
        missed = faults(found, limits_for("int8", task), task.unit)
        if missed:
            raise ModelError(
                f"INT8 misses its limits on {found.n} faces: {', '.join(missed)}; nothing was written: "
                "say --widen, or try other --ranges"
            )
        row = found.to_json(task, self.proof.said, "fp32")
        sizes = {"precision": "int8", "flavour": self.plan.flavour}
        quantization = {
            "flavour": self.plan.flavour,
            "ranges": args.ranges,
            "faces": args.faces,
            "kept_float": sorted(kept),
            "from_graph_sha256": graph_sha256(resolve(args.model)),
            "date": datetime.now(timezone.utc).date().isoformat(),
        }
        return replace(
            self.spec,
            name=args.out.stem,
            graph={**self.spec.graph, **sizes},
            calibration=None,  # intervals belong to a graph: numclip calibrate fits this one's own
            parity={**self.spec.parity, "int8": row},
            provenance={**self.spec.provenance, "quantization": quantization},
        )


def _widened(trial: Trial) -> Widened:
    layers = list(trial.plan.layers)
    with tqdm(total=len(layers), desc="layers", unit="layer", leave=False, disable=None, file=sys.stderr) as bar:
        every = max(1, len(trial.proof.labels) // RANKING_FACES)
        return widen(layers, trial.harm, lambda kept: trial.harm(kept, every), bar.update)


def make_plan(path: Path, spec: ModelSpec, crops: npt.NDArray[np.uint8], flavour: str, ranges: str) -> Plan:
    """Run the float graph over `crops` [N, S, S, 3] and keep the range of every tensor."""
    graph = with_whole_weights(onnx.load(path))
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    tower, head = _split(graph, consumers)
    layers = {_layer_name(node): node.name for node in tower if node.op_type in WEIGHTED and _weight(graph, node)}
    first = next(node for node in tower if node.op_type in WEIGHTED)
    # The first convolution reads three channels, for which ONNX Runtime's integer kernel is slower than the float one.
    fixed = [*head, *_above(graph, first), *([first.name] if flavour == "cpu" else [])]
    layers = {name: node for name, node in layers.items() if node not in fixed}
    with tempfile.TemporaryDirectory(prefix="numclip-ranges-") as folder, _quiet():
        options = {"percentile": PERCENTILE} if ranges == "percentile" else {}
        onnx.save(graph, Path(folder) / "whole.onnx")
        calibrator: Any = create_calibrator(
            Path(folder) / "whole.onnx",
            _ops(graph),
            str(Path(folder) / "a.onnx"),
            RANGES[ranges],
            extra_options=options,
        )
        calibrator.collect_data(_Batches(str(spec.graph["input"]), crops))
        return Plan(graph, flavour, calibrator.compute_data(), layers, tuple(fixed), frozenset(head))


def quantized(plan: Plan, kept: frozenset[str]) -> onnx.ModelProto:
    """The graph in INT8, but for the plan's fixed nodes and the layers `kept`."""
    symmetric = plan.flavour == "tensorrt"
    options = {"ActivationSymmetric": True, "QuantizeBias": False} if symmetric else {}
    with _quiet():
        quantizer = QDQQuantizer(
            copy.deepcopy(plan.graph),
            True,  # per channel
            False,  # reduce_range
            QuantType.QInt8,
            QuantType.QInt8 if symmetric else QuantType.QUInt8,
            plan.ranges,
            [],
            [*plan.fixed, *(plan.layers[name] for name in kept)],
            _ops(plan.graph),
            options,
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    model: onnx.ModelProto = quantizer.model.model
    model.producer_name = "numclip"
    if not symmetric:
        store_small(model, plan.head)
    del model.graph.value_info[:]
    return model


def with_whole_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with weights that are stored narrow (Cast and Mul of constants) as plain float32 ones."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type not in ("Cast", "Mul") or any(name not in constants for name in node.input):
            kept.append(node)
            continue
        given = [constants[name] for name in node.input]
        made = given[0].astype(np.float32) if node.op_type == "Cast" else given[0] * given[1]
        constants[node.output[0]] = made
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(made), node.output[0]))
    used = {name for node in kept for name in node.input}
    weights = [t for t in model.graph.initializer if t.name in used]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(weights)
    return model


def store_small(model: onnx.ModelProto, head: frozenset[str] = frozenset()) -> None:
    """Narrow storage, float32 arithmetic: runtimes fold the casts when they open the file.

    Every float tensor is stored as float16, large matrices of the nodes `head` as int8 per output channel; zero points that
    are zero go.
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    added: list[onnx.NodeProto] = []
    for tensor in [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT]:
        values, uses = numpy_helper.to_array(tensor), readers.get(tensor.name, [])
        if values.size < SMALL_TENSOR or any(n.op_type in ("QuantizeLinear", "DequantizeLinear") for n in uses):
            continue
        name, narrow = tensor.name, f"{tensor.name}.stored"
        if values.ndim == 2 and values.size >= LARGE_MATRIX and all(n.name in head for n in uses):
            over = 1 if _transposed(uses[0]) else 0  # the axis that the product sums over
            scale = np.maximum(np.abs(values).max(axis=over, keepdims=True) / 127, np.finfo(np.float32).tiny)
            stored = np.round(values / scale).astype(np.int8)
            model.graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}.step"))
            added += [
                helper.make_node("Cast", [narrow], [f"{name}.whole"], f"{name}.cast", to=TensorProto.FLOAT),
                helper.make_node("Mul", [f"{name}.whole", f"{name}.step"], [name], f"{name}.mul"),
            ]
        else:
            stored = values.astype(np.float16)
            added.append(helper.make_node("Cast", [narrow], [name], f"{name}.cast", to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(stored, narrow))
    nodes = list(model.graph.node)
    constants = {t.name: t for t in model.graph.initializer}
    for node in nodes:
        constant = node.op_type == "DequantizeLinear" and node.input[0] in constants and len(node.input) == 3
        if constant and not numpy_helper.to_array(constants[node.input[2]]).any():
            del node.input[2]
    del model.graph.node[:]
    model.graph.node.extend([*added, *nodes])
    used = {name for node in model.graph.node for name in node.input}
    kept = [t for t in model.graph.initializer if t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _split(
    graph: onnx.ModelProto, consumers: dict[str, list[onnx.NodeProto]]
) -> tuple[list[onnx.NodeProto], list[str]]:
    """The image tower's nodes in order, and the names of the head's: those with no convolution or LayerNorm below them."""
    above: set[str] = set()
    head: list[str] = []
    for node in reversed(graph.graph.node):
        below = any(c.name in above for name in node.output for c in consumers.get(name, []))
        if below or node.op_type in ("Conv", "LayerNormalization"):
            above.add(node.name)
        else:
            head.append(node.name)
    if not above:
        raise ModelError("expected a graph with convolutions or LayerNorms, found none; nothing to quantize")
    return [n for n in graph.graph.node if n.name in above], head


def _above(graph: onnx.ModelProto, node: onnx.NodeProto) -> list[str]:
    """The names of all nodes that a node's first input comes from."""
    makers = {name: n for n in graph.graph.node for name in n.output}
    found: list[str] = []
    waiting = [node.input[0]]
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is not None and maker.name not in found:
            found.append(maker.name)
            waiting += list(maker.input)
    return found


def _weight(graph: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    return node.input[1] in {t.name for t in graph.graph.initializer}


def _layer_name(node: onnx.NodeProto) -> str:
    """The network's own name of a layer where its weight kept it, else the node's."""
    weight = node.input[1]
    return weight.removesuffix(".weight") if weight.endswith(".weight") else node.name


def _transposed(node: onnx.NodeProto) -> bool:
    return any(a.name == "transB" and a.i for a in node.attribute)


def _ops(graph: onnx.ModelProto) -> list[str]:
    """The operators to quantize in this graph."""
    here = {n.op_type for n in graph.graph.node}
    return sorted(here & set(TRANSFORMER_OPS if "LayerNormalization" in here else QDQRegistry))


class _Batches(CalibrationDataReader):
    """Crops in batches, as the calibrator asks for them."""

    def __init__(self, name: str, crops: npt.NDArray[np.uint8]) -> None:
        self._batches = iter([{name: crops[i : i + RANGE_BATCH]} for i in range(0, len(crops), RANGE_BATCH)])

    def get_next(self) -> dict[str, Any] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return next(self._batches, None)


@contextlib.contextmanager
def _quiet() -> Generator[None, None, None]:
    """The quantizer prints and logs on its way; stdout is ours."""
    logging.disable(logging.WARNING)
    try:
        with open("/dev/null", "w") as sink, contextlib.redirect_stdout(sink):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _metrics(spec: ModelSpec, path: Path, dataset: Dataset) -> dict[str, Any]:
    from ..runtime.sessions.model import Model

    split = "test" if any(s.split == "test" for s in dataset.samples) else "all"
    full = report(predict_dataset(Model(spec, open_session(path, spec, "cpu")), dataset.select(split)), {})
    facts = {k: full[k] for k in ("n", "skipped", "mae", "cs5", "bias")}
    return {"data": f"{dataset.kind}:{dataset.path.name}", "split": split, **facts}


def _summary(spec: ModelSpec, path: Path, widened: Widened) -> str:
    row, unit = spec.parity["int8"], spec.task.unit
    lines = [
        f"{path}: {path.stat().st_size / 1e6:.2f} MB, flavour {spec.graph['flavour']}; on {row['n']} faces MAE {row['mae']:.3f} "
        f"({row['mae_change']:+.3f} {unit} against fp32), values apart by {row['mean']:.3f} in the mean, {row['p99']:.2f} at p99"
    ]
    lines += [f"  kept in float: {name} (alone {widened.harm[name]:.2f} of the limit)" for name in widened.kept]
    lines += [f"  {m['data']} {m['split']}: MAE {m['mae']:.2f} {unit}, n {m['n']}" for m in spec.metrics]
    return "\n".join(lines)
