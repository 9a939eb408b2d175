"""Compare files of one model, in the task's unit: checkpoint, float32, FP16 and INT8 files, engines, libraries.

Every file runs on the same faces as the reference, and must stay within the limits of its own precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import ModelError, UsageError
from ...runtime.contract.measured import ParityRow
from ...runtime.contract.model_file import read_spec, refuse_shipped, resolve, write_spec
from ...runtime.contract.spec import ModelSpec
from ...runtime.sessions.choice import probe_crops
from ...runtime.sessions.engine_file import read_sidecar, write_sidecar
from ...runtime.sessions.model import Model
from ...runtime.sessions.opening import open_session
from ...runtime.sessions.session import Outputs
from ..data.datasets import open_data
from .parity import ProofFaces, difference, faults, limits_for, precision_of, proof_faces
from .predictor import answers

PROBES = 32  # number of synthetic pictures, without labelled faces
MAKERS = {"int8": "numclip quantize", "fp16": "numclip export --precision fp16"}


@dataclass(frozen=True)
class VerifyOptions:
    """What `verify` compares, and on which faces."""

    reference: Model | str | Path
    """An open model, or an .onnx file, which ONNX Runtime runs on the CPU. Without `compared` it is compared with itself."""
    compared: Sequence[str | Path] = ()
    """The models to compare: names, .onnx or .engine files."""
    data: Sequence[str] = ()
    """Labelled faces, such as `utkface:PATH`; none: synthetic pictures, a weaker check."""
    split: str | None = None
    """train, val, calibration, test or all; None: val if a data set has it, else all."""
    num_faces: int = 256
    """Number of faces to use."""
    device: str = "cpu"
    """Device of the compared models; engines always run in TensorRT."""
    threads: int | None = None
    """CPU threads; None: chosen by the inference library."""
    write: bool = False
    """Write each result into the metadata of its model file; not for the shipped files, nor for a file compared with itself."""
    reference_name: str | None = None
    """What the report calls an open model; None: the name in its spec."""


@dataclass(frozen=True)
class Verified:
    """One file compared with the reference."""

    model: str  # as the user named it
    precision: str
    library: str
    version: str
    device: str
    parity: ParityRow
    missed: tuple[str, ...]  # each exceeded limit, as text

    @property
    def advice(self) -> str:
        """What to do about a file that exceeds its limits."""
        maker = MAKERS.get(self.precision)
        return f"make it again with {maker} --widen" if maker else "export it again, or run it on another --device"


@dataclass(frozen=True)
class Verification:
    """The result of `numclip verify`."""

    reference: str
    faces: str  # a description of them
    n: int
    unit: str  # of the differences
    rows: tuple[Verified, ...]

    @property
    def missed(self) -> tuple[Verified, ...]:
        """The files that exceed a limit."""
        return tuple(row for row in self.rows if row.missed)

    def to_json(self) -> dict[str, object]:
        """The report as one JSON object."""
        rows = [
            {
                "model": row.model,
                "precision": row.precision,
                "session": {"library": row.library, "version": row.version, "device": row.device},
                **asdict(row.parity),
                "missed": list(row.missed),
            }
            for row in self.rows
        ]
        return {"reference": self.reference, "faces": self.faces, "n": self.n, "rows": rows}


def verify(options: VerifyOptions) -> Verification:
    """Compare. A file that exceeds its limits is a row with `missed`, not an error.

    Raises UsageError, ModelError, DataError, DetectorError, DeviceError.
    """
    if options.num_faces < 1:
        raise UsageError(f"expected --num-faces above 0, got {options.num_faces}")
    model, name = _opened(options)
    compared = options.compared or ([] if isinstance(options.reference, Model) else [options.reference])
    if not compared:
        raise UsageError(f"{name}: a checkpoint needs another model to be compared with; name a second MODEL")
    if options.write:
        _check_writable(compared, model)
    proof = _proof(options, model)
    expected = answers(model.session, proof.crops)
    rows = tuple(_verified(str(artifact), options, model.spec, proof, expected, name) for artifact in compared)
    return Verification(name, proof.said, len(proof.labels), model.spec.task.unit, rows)


def _check_writable(compared: Sequence[str | Path], reference: Model) -> None:
    """Raise UsageError for a shipped file, and for a file that would be compared with itself."""
    for path in map(resolve, compared):
        refuse_shipped(path)
        if reference.path is not None and path.resolve() == reference.path.resolve():
            raise UsageError(
                f"{path}: expected --write with another file or a checkpoint as the first MODEL, got this file itself; name the one that "
                "it was made from"
            )


def _opened(options: VerifyOptions) -> tuple[Model, str]:
    """The reference, and its name."""
    if isinstance(options.reference, Model):
        return options.reference, options.reference_name or options.reference.spec.name
    name, path = str(options.reference), resolve(options.reference)
    if path.suffix == ".engine":
        raise UsageError(
            f"{name}: the first MODEL, the reference, must be a checkpoint or an .onnx file; put the engine after it"
        )
    spec = read_spec(path)
    return Model(spec.with_calibration(None), open_session(path, spec, "cpu"), path), name


def _proof(options: VerifyOptions, model: Model) -> ProofFaces:
    """The faces of the data; without data, pictures that can be generated on every machine, such as a board without faces."""
    if options.data:
        data = [open_data(text) for text in options.data]
        return proof_faces(data, model.spec, options.num_faces, options.split)
    crops = probe_crops(model.spec.crop.side, PROBES)
    labels = answers(model.session, crops).value.astype(np.float64)  # no labels: errors are differences
    return ProofFaces(crops, labels, f"{PROBES} smooth pictures, no faces")


def _verified(
    name: str, options: VerifyOptions, spec: ModelSpec, proof: ProofFaces, expected: Outputs, reference: str
) -> Verified:
    path = resolve(name)
    is_engine = path.suffix == ".engine"
    own = read_sidecar(path)[0] if is_engine else read_spec(path)
    if (own.task, own.crop) != (spec.task, spec.crop):
        raise ModelError(f"{name}: differs from the reference in task or crop; give files of one model")
    session = open_session(path, own, "tensorrt" if is_engine else options.device, options.threads)
    found = difference(answers(session, proof.crops), expected, proof.labels)
    precision = precision_of(own)
    if options.write:
        is_checkpoint = isinstance(options.reference, Model) and options.reference.path is None
        against = "PyTorch" if is_checkpoint else Path(reference).name
        row = found.row(own.task, proof.said, against)
        _write(path, replace(own, parity={**own.parity, "engine" if is_engine else precision: row}))
    facts = session.facts
    row = found.row(own.task, proof.said, reference)
    missed = faults(found, limits_for(precision, own.task), own.task.unit)
    return Verified(name, precision, facts.library, facts.version, facts.device, row, tuple(missed))


def _write(path: Path, spec: ModelSpec) -> None:
    """Write the spec into the file; the graph is not changed."""
    if path.suffix == ".engine":
        write_sidecar(path, spec, read_sidecar(path)[1])
    else:
        write_spec(path, spec)
