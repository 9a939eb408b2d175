"""An open model: its spec and a session. Threads may share it; unpickling it opens its file again."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from ...errors import ModelError
from ..contract.model_file import MODELS, graph_sha256, read_spec, resolve
from ..contract.readings import Readings
from ..contract.sharpness import sharpness
from ..contract.spec import ModelSpec
from .engine_file import read_sidecar
from .opening import open_session
from .session import Crops, Session, check_crops


@dataclass(frozen=True)
class Origin:
    """How a model was opened, so that another process can open it the same way."""

    name: str  # a shipped model's name, or the absolute path of a file
    device: str
    threads: int | None
    sha256: str  # of the file


class Model:
    """Estimates a number, such as an age, for each face crop. `path`: the model's file; None if there is none."""

    def __init__(
        self, spec: ModelSpec, session: Session, path: Path | None = None, origin: Origin | None = None
    ) -> None:
        self.spec, self.session, self.path, self.origin = spec, session, path, origin
        self._closed = False

    def __call__(self, crops: Crops) -> Readings:
        """Estimate the value of each crop.

        crops: uint8 [N, S, S, 3] RGB, made by the spec's crop contract; N may be 0. Raises ValueError for other shapes or types,
        and ModelError if the model is closed.
        """
        if self._closed:
            raise ModelError(f"model {self.spec.name} is closed; open it again with numclip.load")
        crops = check_crops(crops, self.spec.crop.side)
        if len(crops) == 0:
            bins, dim = self.spec.task.num_bins, self.spec.graph.embedding_dim
            empty = np.zeros((0, bins + dim + 1), np.float32)
            return Readings(empty[:, 0], empty[:, 1 : 1 + bins], empty[:, 1 + bins :], self.spec)
        outputs = self.session.run(crops)
        if self.spec.calibration is None:
            return Readings(outputs.value, outputs.probabilities, outputs.embedding, self.spec)
        given = outputs.value.astype(np.float64), outputs.probabilities.astype(np.float64)
        corrected = self.spec.calibration.table.correct(*given, self.spec.task)
        value, probabilities = (x.astype(np.float32) for x in corrected)
        return Readings(value, probabilities, outputs.embedding, self.spec, sharpness(crops))

    def close(self) -> None:
        """Free the session's memory and threads. Calling the model afterwards raises ModelError."""
        if not self._closed:
            self._closed = True
            self.session.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        task, where = self.spec.task, "closed" if self._closed else self.session.facts.device
        return f"Model({self.spec.name}: {task.name} in {task.unit}, {self.spec.graph.precision}, {where})"

    def __reduce__(self) -> tuple[object, tuple[Origin, ModelSpec]]:
        if self.origin is None:
            raise ModelError(
                f"model {self.spec.name} was not opened from a model file, so it cannot be pickled; open it with numclip.load"
            )
        return _opened_again, (self.origin, self.spec)


def load(
    name_or_path: str | os.PathLike[str] = "age-nano",
    device: str = "auto",
    threads: int | None = None,
    precision: str | None = None,
) -> Model:
    """Open a model.

    name_or_path: a shipped model's name (it means the same file on every machine), an .onnx or .engine file, or
    hf://owner/name on the Hugging Face Hub. device: where the model runs; `auto` takes CUDA if it is available, else the CPU.
    threads: CPU threads per call; None: chosen by the inference library. precision: open the model's file of this precision,
    `fp32`, `fp16` or `int8` (NAME.int8.onnx beside NAME.onnx); None: the file that was named.

    Raises ModelError if the file cannot be used, DeviceError if the device is not available.
    """
    path = resolve(name_or_path, precision)
    spec = read_sidecar(path)[0] if path.suffix == ".engine" else read_spec(path)
    if path.suffix != ".engine":
        check_calibration(path, spec)
    name = path.stem if path.parent == MODELS else str(path.absolute())
    origin = Origin(name, device, threads, hashlib.sha256(path.read_bytes()).hexdigest())
    return Model(spec, open_session(path, spec, device, threads), path, origin)


def _opened_again(origin: Origin, spec: ModelSpec) -> Model:
    """Open the model again in another process; raises ModelError if the file has changed."""
    model = load(origin.name, origin.device, origin.threads)
    if model.origin != origin or model.spec != spec:
        model.close()
        raise ModelError(
            f"model {origin.name}: expected the file that the model had when it was pickled, got another one; copy that file "
            "to this machine, or pickle the model again"
        )
    return model


def check_calibration(path: Path, spec: ModelSpec) -> None:
    """Raise ModelError if the calibration was fitted for another graph."""
    if spec.calibration is None:
        return
    if spec.calibration.graph_sha256 != graph_sha256(path):
        raise ModelError(
            f"{path}: spec field calibration.graph_sha256: the calibration belongs to another graph; calibrate again"
        )
