"""A model ready to read faces: its spec and a session."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ..contract.model_file import graph_sha256, read_spec, resolve
from ..contract.readings import Readings
from ..contract.sharpness import sharpness
from ..contract.spec import ModelSpec
from .engine_file import read_sidecar
from .session import Session, open_session


class Model:
    """Reads ordinal numbers off crops. `path`: the file that runs, where there is one."""

    def __init__(self, spec: ModelSpec, session: Session, path: Path | None = None) -> None:
        self.spec, self.session, self.path = spec, session, path
        self._table = None if spec.calibration is None else spec.calibration.table

    def __call__(self, crops: npt.NDArray[np.uint8]) -> Readings:
        """crops: uint8 [N, S, S, 3] RGB, cut by the spec's crop contract; N may be 0. Raises ValueError otherwise."""
        side = self.spec.crop.side
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (side, side, 3):
            raise ValueError(f"expected crops uint8 [N, {side}, {side}, 3] RGB, got {crops.dtype} {list(crops.shape)}")
        if len(crops) == 0:
            bins, dim = self.spec.task.num_bins, self.spec.graph.embedding_dim
            empty = np.zeros((0, bins + dim + 1), np.float32)
            return Readings(empty[:, 0], empty[:, 1 : 1 + bins], empty[:, 1 + bins :], self.spec)
        outputs = self.session.run(np.ascontiguousarray(crops))
        if self._table is None:
            return Readings(outputs.value, outputs.probabilities, outputs.embedding, self.spec)
        given = outputs.value.astype(np.float64), outputs.probabilities.astype(np.float64)
        value, probabilities = (x.astype(np.float32) for x in self._table.correct(*given, self.spec.task))
        return Readings(value, probabilities, outputs.embedding, self.spec, sharpness(crops))


def load(name_or_path: str | os.PathLike[str] = "age-nano", device: str = "auto", threads: int | None = None) -> Model:
    """Open a model by name or file; raises ModelError or DeviceError saying what to do.

    device: `auto` takes the fastest session that answers rightly here; for a name, not for a file, that may be the INT8 form
    shipped beside it, whose spec the model then has. threads: CPU threads for one call, None for the library's choice.
    """
    path = resolve(name_or_path)
    if path.suffix == ".engine":
        spec, _ = read_sidecar(path)
        return Model(spec, open_session(path, spec, device, threads), path)
    files = [(path, _checked_spec(path))]
    if device == "auto" and os.fspath(name_or_path) == path.stem:
        files += _sibling(path, files[0][1])
    if device == "auto":
        from .choice import choose_among

        found, session = choose_among(files, threads)
        return Model(found.spec, session, found.path)
    return Model(files[0][1], open_session(path, files[0][1], device, threads), path)


def _checked_spec(path: Path) -> ModelSpec:
    spec = read_spec(path)
    check_calibration(path, spec)
    return spec


def _sibling(path: Path, spec: ModelSpec) -> list[tuple[Path, ModelSpec]]:
    """The INT8 form beside a shipped model; only with intervals of its own, where the float32 file has them."""
    file = path.with_name(f"{path.stem}.int8.onnx")
    if not file.is_file():
        return []
    found = _checked_spec(file)
    return [] if found.calibration is None and spec.calibration is not None else [(file, found)]


def check_calibration(path: Path, spec: ModelSpec) -> None:
    """Raise ModelError for a calibration that was fitted for another graph."""
    if spec.calibration is None:
        return
    if spec.calibration.graph_sha256 != graph_sha256(path):
        raise ModelError(
            f"{path}: spec field calibration.graph_sha256: expected this graph's, got another's; calibrate again"
        )
