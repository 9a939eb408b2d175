"""Quantize a model file to INT8 with ranges from real faces, and check its accuracy before it is written."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from tqdm import tqdm

from ..errors import ModelError, UsageError
from ..runtime.contract.fields import to_json
from ..runtime.contract.measured import ParityRow
from ..runtime.contract.model_file import graph_sha256, read_spec, resolve, write_spec
from ..runtime.contract.provenance import Quantization
from ..runtime.contract.spec import ModelSpec
from ..runtime.places import check_output, write_whole
from ..runtime.sessions.model import Model
from ..runtime.sessions.opening import open_session
from ..runtime.sessions.session import Outputs
from .data.datasets import Dataset, open_data
from .int8_graph import FLAVOURS, RANGES, Plan, make_plan, quantized
from .measure.evaluation import metric_of
from .measure.parity import Difference, ProofFaces, difference, excess, faults, limits_for, precision_of, proof_faces
from .measure.predictor import answers
from .widening import Widened, widen

RANKING_FACES = 100


@dataclass(frozen=True)
class QuantizeOptions:
    """What `quantize` makes, and which faces it uses."""

    model: str | Path
    """A shipped model's name, or a float32 .onnx file."""
    data: Sequence[str]
    """Labelled faces, such as `utkface:PATH`: split calibration for the ranges, val for the accuracy check, test for the error."""
    out: Path
    """The INT8 file to write."""
    flavour: str = FLAVOURS[0]
    """Runtime that the file is for: `cpu` or `tensorrt`."""
    ranges: str = "minmax"
    """Method that chooses each activation's range: `minmax`, `percentile` or `entropy`."""
    num_faces: int = 512
    """Number of faces that the ranges are measured on."""
    proof_faces: int = 1200
    """Number of faces for the accuracy check."""
    widen: bool = False
    """Keep in float the layers that would exceed the limits."""


@dataclass(frozen=True)
class Quantized:
    """What `quantize` wrote and what it measured."""

    out: Path
    spec: ModelSpec  # of the INT8 file, with its parity row and its error on each data set
    kept: tuple[str, ...]  # layers in float, the most harmful first
    harm: dict[str, float]  # layer: share of the limit that its INT8 form uses by itself; empty if none was tried

    @property
    def parity(self) -> ParityRow:
        """The differences between the INT8 file and the float32 one."""
        return self.spec.parity["int8"]

    def to_json(self) -> dict[str, object]:
        """The accuracy check as one JSON object."""
        return {"parity": to_json(self.parity), "kept": list(self.kept), "harm": self.harm}


def quantize(options: QuantizeOptions) -> Quantized:
    """Measure ranges, quantize, check the accuracy, and write the file. If it exceeds its limits, nothing is written.

    Raises UsageError, ModelError, DataError, DetectorError, OutputError.
    """
    _check(options)
    check_output(options.out)
    path = resolve(options.model)
    spec = read_spec(path)
    if precision_of(spec) != "fp32":
        raise UsageError(
            f"{path}: expected a float32 model, got {precision_of(spec)}; give the float32 file that it was made from"
        )
    data = [open_data(text) for text in options.data]
    split = "calibration" if all(d.split_or_all("calibration") == "calibration" for d in data) else None
    range_faces = proof_faces(data, spec, options.num_faces, split)
    proof = proof_faces(data, spec, options.proof_faces)
    plan = make_plan(path, spec, range_faces.crops, options.flavour, options.ranges)
    trial = Trial(plan, spec, proof, answers(open_session(path, spec, "cpu"), proof.crops))
    widened = _widened(trial) if options.widen else Widened((), {})
    with tempfile.TemporaryDirectory(prefix="numclip-quantize-") as folder:
        draft = Path(folder) / options.out.name
        found = trial.proven(frozenset(widened.kept), draft)
        made = _with_metrics(_int8_spec(spec, trial, found, widened, options, len(range_faces.labels)), draft, data)
        write_spec(draft, made)
        write_whole(options.out, draft.read_bytes())
    return Quantized(options.out, made, widened.kept, widened.harm)


def _check(options: QuantizeOptions) -> None:
    if options.num_faces < 1 or options.proof_faces < 1:
        raise UsageError("expected --num-faces and --proof-faces above 0")
    for flag, value, known in (("--flavour", options.flavour, FLAVOURS), ("--ranges", options.ranges, RANGES)):
        if value not in known:
            raise UsageError(f"expected {flag} {' or '.join(known)}, got {value!r}")


@dataclass(frozen=True, eq=False)
class Trial:
    """Quantized graphs of one plan, measured on the same faces."""

    plan: Plan
    spec: ModelSpec
    proof: ProofFaces
    reference: Outputs

    def harm(self, kept: frozenset[str], every: int = 1) -> float:
        """The share of INT8's limits that the graph uses with these layers in float, on every n-th face (`every`).

        On few faces the change of the MAE is mostly noise, so it does not count there.
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

    def proven(self, kept: frozenset[str], draft: Path) -> Difference:
        """Write the graph to `draft` and return its difference from the float32 one; raises ModelError if it exceeds the limits."""
        task = self.spec.task
        write_whole(draft, quantized(self.plan, kept).SerializeToString())
        got = answers(open_session(draft, self.spec, "cpu"), self.proof.crops)
        found = difference(got, self.reference, self.proof.labels)
        missed = faults(found, limits_for("int8", task), task.unit)
        if missed:
            raise ModelError(
                f"the INT8 file exceeds its limits on {found.n} faces ({', '.join(missed)}), so nothing was written; add "
                "--widen, or try other --ranges"
            )
        return found


def _widened(trial: Trial) -> Widened:
    layers = list(trial.plan.layers)
    with tqdm(total=len(layers), desc="layers", unit="layer", leave=False, disable=None, file=sys.stderr) as bar:
        every = max(1, len(trial.proof.labels) // RANKING_FACES)
        return widen(layers, trial.harm, lambda kept: trial.harm(kept, every), bar.update)


def _int8_spec(
    spec: ModelSpec, trial: Trial, found: Difference, widened: Widened, options: QuantizeOptions, num_faces: int
) -> ModelSpec:
    """The INT8 file's spec, except its errors on the data sets; num_faces: how many faces the ranges were measured on."""
    row = found.row(spec.task, trial.proof.said, "fp32")
    quantization = Quantization(
        flavour=options.flavour,
        ranges=options.ranges,
        faces=num_faces,
        kept_float=tuple(sorted(widened.kept)),
        from_graph_sha256=graph_sha256(resolve(options.model)),
        date=datetime.now(timezone.utc).date().isoformat(),
    )
    return replace(
        spec,
        name=options.out.stem,
        graph=replace(spec.graph, precision="int8", flavour=options.flavour),
        calibration=None,  # a calibration belongs to one graph: run numclip calibrate for this one
        parity={**spec.parity, "int8": row},
        provenance=replace(spec.provenance, quantization=quantization),
    )


def _with_metrics(spec: ModelSpec, path: Path, data: Sequence[Dataset]) -> ModelSpec:
    model = Model(spec, open_session(path, spec, "cpu"))
    return replace(spec, metrics=tuple(metric_of(model, dataset) for dataset in data))
