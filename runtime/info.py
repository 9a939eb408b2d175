"""The content of a model file's metadata, as a record and as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from .contract.faces_spec import FacesSpec
from .contract.fields import Json, to_json
from .contract.licences import Verdict, commercial_use
from .contract.model_file import graph_sha256, is_finder, read_faces_spec, read_spec, resolve
from .contract.spec import ModelSpec
from .sessions.engine_file import holds_finder, read_faces_sidecar, read_sidecar


@dataclass(frozen=True)
class ModelInfo:
    """A model file, or a face finder's, and its metadata."""

    path: Path
    spec: ModelSpec | FacesSpec
    file_bytes: int
    graph_sha256: str  # of an engine: of the .onnx it was built from
    commercial_use: Verdict

    @property
    def is_finder(self) -> bool:
        """Whether it is a face finder; otherwise it reads crops."""
        return isinstance(self.spec, FacesSpec)

    def to_json(self) -> dict[str, Json]:
        """The complete spec, and the facts that are not part of it."""
        return {
            **json.loads(self.spec.to_json()),
            "file_bytes": self.file_bytes,
            "graph_sha256": self.graph_sha256,
            "commercial_use": to_json(self.commercial_use),
        }


def model_info(name_or_path: str | os.PathLike[str]) -> ModelInfo:
    """Read the metadata of a model, by name or file; raises ModelError."""
    path = resolve(name_or_path)
    if path.suffix == ".engine":
        spec, built = read_faces_sidecar(path) if holds_finder(path) else read_sidecar(path)
        sha256 = built.graph_sha256
    else:
        spec = read_faces_spec(path) if is_finder(path) else read_spec(path)
        sha256 = graph_sha256(path)
    return ModelInfo(path, spec, path.stat().st_size, sha256, commercial_use(spec.licences))
