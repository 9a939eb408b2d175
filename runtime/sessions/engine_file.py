"""Engines on disk: age.engine, and the record age.engine.json of what it was built from and for.

An engine is a cache made on the device. It is opened only with the library, version and GPU that it was built with, and only
while the .onnx file beside it is still the one that it was built from. Anything else is an error that names both values.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ...errors import ModelError
from ..contract.faces_spec import KIND as FACES
from ..contract.faces_spec import FacesSpec
from ..contract.fields import Fields, to_text
from ..contract.model_file import graph_sha256, named_in, read_spec
from ..contract.spec import ModelSpec, kind_of
from ..places import write_whole

SCHEMA_VERSION = 1
OLDEST_COMPATIBLE = (8, 0)  # Ampere: hardware-compatible engines run from there on


@dataclass(frozen=True)
class Built:
    """What an engine was built with, and what for."""

    graph_sha256: str  # of the .onnx file that it was built from
    engine_sha256: str
    library: str  # tensorrt or tensorrt_rtx
    version: str  # of the library
    gpu: str | None  # the GPU's name; None if it was built without one
    compute_capabilities: tuple[str, ...]  # "8.6", …: the GPU's, or those it was built for
    cuda: str | None
    driver: str | None
    jetpack: str | None  # L4T release, on a Jetson
    max_batch: int
    flags: tuple[str, ...]  # version-compatible, hardware-compatible

    @staticmethod
    def from_json(fields: Fields) -> Built:
        """Read and check; raises ModelError naming the field."""
        built = Built(
            graph_sha256=fields.text("graph_sha256"),
            engine_sha256=fields.text("engine_sha256"),
            library=fields.text("library"),
            version=fields.text("version"),
            gpu=fields.maybe("gpu", fields.text),
            compute_capabilities=fields.texts("compute_capabilities"),
            cuda=fields.maybe("cuda", fields.text),
            driver=fields.maybe("driver", fields.text),
            jetpack=fields.maybe("jetpack", fields.text),
            max_batch=fields.whole("max_batch"),
            flags=fields.texts("flags"),
        )
        fields.done()
        return built


def sidecar_path(engine: Path) -> Path:
    """age.engine -> age.engine.json."""
    return engine.with_name(engine.name + ".json")


def write_engine(path: Path, data: bytes, spec: ModelSpec | FacesSpec, built: Built) -> None:
    """Write engine and record, each atomically; the record last, so that an interruption between them is detected."""
    sidecar_path(path).unlink(missing_ok=True)
    write_whole(path, data)
    write_sidecar(path, spec, built)


def write_sidecar(path: Path, spec: ModelSpec | FacesSpec, built: Built) -> None:
    """Write an engine's record."""
    content = {"schema_version": SCHEMA_VERSION, "spec": json.loads(spec.to_json()), "built": asdict(built)}
    write_whole(sidecar_path(path), (json.dumps(content, indent=1) + "\n").encode())


def read_sidecar(path: Path) -> tuple[ModelSpec, Built]:
    """The spec and the record of an engine; raises ModelError.

    The calibration comes from the .onnx file beside it, if that has the graph that the engine was built from (by its hash).
    """
    text, built = _read_sidecar(path)
    spec = named_in(path, ModelSpec.from_json, text)
    onnx = path.with_suffix(".onnx")
    if onnx.is_file() and graph_sha256(onnx) == built.graph_sha256:
        spec = spec.with_calibration(read_spec(onnx).calibration)
    return spec, built


def read_faces_sidecar(path: Path) -> tuple[FacesSpec, Built]:
    """The spec and the record of a face finder's engine; raises ModelError."""
    text, built = _read_sidecar(path)
    return named_in(path, FacesSpec.from_json, text), built


def holds_finder(path: Path) -> bool:
    """Whether an engine is a face finder's; otherwise it reads crops. Raises ModelError."""
    return named_in(path, kind_of, _read_sidecar(path)[0]) == FACES


def _read_sidecar(path: Path) -> tuple[str, Built]:
    """The spec as a JSON object, and the record."""
    sidecar = sidecar_path(path)
    if not path.is_file():
        raise ModelError(f"{path}: the engine of {sidecar.name} is missing; build it again with numclip engine")
    if not sidecar.is_file():
        raise ModelError(
            f"{path}: {sidecar.name}, which must be in the same folder, is missing; build the engine again with numclip "
            "engine"
        )
    try:
        fields = Fields.parse(sidecar.read_text(encoding="utf-8"), "build the engine again: numclip engine")
        version = fields.whole("schema_version")
        if version != SCHEMA_VERSION:
            raise fields.wrong("schema_version", str(SCHEMA_VERSION), version)
        spec, built = to_text(fields.raw("spec")), Built.from_json(fields.object("built"))
        fields.done()
        return spec, built
    except (ModelError, ValueError) as error:
        raise ModelError(f"{sidecar}: {error}") from None


def read_engine(path: Path, built: Built) -> bytes:
    """The engine's bytes; raises ModelError if their hash is not the recorded one, or the .onnx file has changed."""
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != built.engine_sha256:
        raise _refused(path, "the engine's SHA-256", built.engine_sha256[:12], f"{found[:12]} ({len(data)} bytes)")
    onnx = path.with_suffix(".onnx")
    if onnx.is_file() and (sha := graph_sha256(onnx)) != built.graph_sha256:
        raise _refused(path, f"the SHA-256 of the graph in {onnx.name}", built.graph_sha256[:12], sha[:12])
    return data


def check_version(path: Path, built: Built, version: str) -> None:
    """Raise ModelError if the engine was built by another version of its library than the installed one."""
    if version != built.version and "version-compatible" not in built.flags:
        raise _refused(path, f"the {built.library} version", built.version, version)


def check_card(path: Path, built: Built, gpu: str, compute_capability: str) -> None:
    """Raise ModelError if the engine was built for another GPU than this machine's."""
    capabilities = built.compute_capabilities
    if "hardware-compatible" in built.flags and _numbers(compute_capability) >= OLDEST_COMPATIBLE:
        return
    if compute_capability not in capabilities:
        raise _refused(path, "the compute capability", " or ".join(capabilities), compute_capability)
    if built.gpu is not None and built.gpu != gpu:
        raise _refused(path, "the GPU", built.gpu, gpu)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _refused(path: Path, what: str, expected: str, got: str) -> ModelError:
    return ModelError(
        f"{path}: {what} is {got}, but the engine's record says {expected}; build it again with numclip engine"
    )
