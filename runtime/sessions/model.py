"""A model ready to read faces: its spec and a session. Threads may share it; it pickles by being opened again."""

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
    """How a model was opened, so that another process can open it again."""

    name: str  # a shipped model's name, or the whole path of a file
    device: str
    threads: int | None
    sha256: str  # of the file


class Model:
    """Reads ordinal numbers off crops. `path`: the file that runs, where there is one."""

    def __init__(
        self, spec: ModelSpec, session: Session, path: Path | None = None, origin: Origin | None = None
    ) -> None:
        self.spec, self.session, self.path, self.origin = spec, session, path, origin
        self._closed = False

    def __call__(self, crops: Crops) -> Readings:
        """crops: uint8 [N, S, S, 3] RGB, cut by the spec's crop contract; N may be 0. Raises ValueError otherwise."""
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
        """Give the session's memory and threads back; calling the model afterwards is a ModelError."""
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
                f"model {self.spec.name} was not opened from a model file, so it cannot be pickled; use numclip.load"
            )
        return _opened_again, (self.origin, self.spec)


def load(
    name_or_path: str | os.PathLike[str] = "age-nano",
    device: str = "auto",
    threads: int | None = None,
    precision: str | None = None,
) -> Model:
    """Open a model by name, file or its place on the Hugging Face Hub, hf://owner/name; raises ModelError or DeviceError.

    device: where it runs; `auto` chooses a library by a fixed rule (choice.py). threads: CPU threads for one call, None for the
    library's choice. precision: the form of the model beside it in `fp32`, `fp16` or `int8` (NAME.int8.onnx); None: the file
    that was named. A name means the same file on every machine.
    """
    path = resolve(name_or_path, precision)
    spec = read_sidecar(path)[0] if path.suffix == ".engine" else read_spec(path)
    if path.suffix != ".engine":
        check_calibration(path, spec)
    name = path.stem if path.parent == MODELS else str(path.absolute())
    origin = Origin(name, device, threads, hashlib.sha256(path.read_bytes()).hexdigest())
    return Model(spec, open_session(path, spec, device, threads), path, origin)


def _opened_again(origin: Origin, spec: ModelSpec) -> Model:
    """The same model in another process; raises ModelError where the file is another by now."""
    model = load(origin.name, origin.device, origin.threads)
    if model.origin != origin or model.spec != spec:
        model.close()
        raise ModelError(f"model {origin.name}: expected the file that was pickled, found another; copy that file here")
    return model


def check_calibration(path: Path, spec: ModelSpec) -> None:
    """Raise ModelError for a calibration that was fitted for another graph."""
    if spec.calibration is None:
        return
    if spec.calibration.graph_sha256 != graph_sha256(path):
        raise ModelError(
            f"{path}: spec field calibration.graph_sha256: expected this graph's, got another's; calibrate again"
        )
