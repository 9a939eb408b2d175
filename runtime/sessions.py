"""Sessions run the frozen graph on a device. A device that was asked for and is not there is an error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import DeviceError, ModelError
from .spec import ModelSpec

DEVICES = ("auto", "cpu", "cuda", "tensorrt")
PROVIDERS = {
    "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "cpu": ["CPUExecutionProvider"],
}


@dataclass(frozen=True, eq=False)
class Outputs:
    """What the graph puts out for N crops."""

    value: npt.NDArray[np.float32]  # [N]
    probabilities: npt.NDArray[np.float32]  # [N, K]
    embedding: npt.NDArray[np.float32]  # [N, D]


class Session(Protocol):
    """A graph made ready on a device."""

    device: str

    def run(self, crops: npt.NDArray[np.uint8]) -> Outputs:
        """crops: uint8 [N, S, S, 3] RGB, N >= 1."""
        ...

    def describe(self) -> dict[str, Any]:
        """What runs it, for reports: library, version, device, threads."""
        ...


class OrtSession:
    """ONNX Runtime on the CPU, on CUDA or through its TensorRT provider."""

    def __init__(self, path: Path, spec: ModelSpec, device: str, threads: int | None) -> None:
        import onnxruntime as ort

        self.device, self._library, self._threads = device, ort, threads
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors only; we report ours
        if threads is not None:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        try:
            self._session = ort.InferenceSession(str(path), options, providers=PROVIDERS[device])
        except Exception as error:  # onnxruntime's own exceptions share no base
            reason = str(error).splitlines()[0][:200]
            raise ModelError(
                f"{path}: ONNX Runtime {ort.__version__} cannot open the graph ({reason}); export it again"
            ) from None
        running = self._session.get_providers()
        if device != "cpu" and PROVIDERS[device][0] not in running:
            raise DeviceError(
                f"device {device}: expected {PROVIDERS[device][0]}, it failed to start and {running[0]} took over; "
                "check the driver with nvidia-smi or say --device cpu"
            )
        self._names = [spec.graph[key] for key in ("value", "probabilities", "embedding")]
        self._input = str(spec.graph["input"])
        _check_graph(self._session, spec, path)

    def run(self, crops: npt.NDArray[np.uint8]) -> Outputs:
        """crops: uint8 [N, S, S, 3] RGB, N >= 1."""
        value, probabilities, embedding = self._session.run(self._names, {self._input: crops})
        return Outputs(np.asarray(value), np.asarray(probabilities), np.asarray(embedding))

    def describe(self) -> dict[str, Any]:
        """Library, version, device and threads."""
        return {
            "library": "onnxruntime",
            "version": self._library.__version__,
            "device": self.device,
            "providers": self._session.get_providers(),
            "threads": self._threads,
        }


def open_session(path: Path, spec: ModelSpec, device: str = "auto", threads: int | None = None) -> Session:
    """Make a model file ready. `auto` takes CUDA where onnxruntime offers it and it starts, else the CPU.

    threads: CPU threads for one run, None for onnxruntime's choice. Raises DeviceError, ModelError.
    """
    if device not in DEVICES:
        raise DeviceError(f"expected --device {', '.join(DEVICES)}, got {device!r}")
    if threads is not None and threads < 1:
        raise DeviceError(f"expected at least 1 thread, got {threads}")
    if path.suffix == ".engine":
        raise ModelError(
            f"{path}: expected an .onnx, this version runs no TensorRT engines; give the .onnx it came from"
        )
    import onnxruntime as ort

    offered: list[str] = ort.get_available_providers()
    if device == "auto":
        if PROVIDERS["cuda"][0] in offered:
            try:
                return OrtSession(path, spec, "cuda", threads)
            except DeviceError:
                pass  # the GPU build without a GPU: auto may choose, and .device says what it chose
        return OrtSession(path, spec, "cpu", threads)
    if PROVIDERS[device][0] not in offered:
        raise DeviceError(
            f"device {device}: expected {PROVIDERS[device][0]}, this onnxruntime offers {', '.join(offered)}; "
            'pip install "numclip[gpu]" in place of numclip[cpu], or say --device cpu'
        )
    return OrtSession(path, spec, device, threads)


def _check_graph(session: Any, spec: ModelSpec, path: Path) -> None:
    """The graph's tensors must be the ones the spec promises."""
    inputs = {t.name: t for t in session.get_inputs()}
    outputs = {t.name: t for t in session.get_outputs()}
    name, side = str(spec.graph["input"]), spec.crop.side
    found = inputs.get(name)
    if found is None or found.type != "tensor(uint8)" or list(found.shape[1:]) != [side, side, 3]:
        got = "none" if found is None else f"{found.type} {found.shape}"
        raise ModelError(f"{path}: expected the input {name} uint8 [N, {side}, {side}, 3], got {got}; export it again")
    widths = {"value": [], "probabilities": [spec.task.num_bins], "embedding": [spec.graph["embedding_dim"]]}
    for key, width in widths.items():
        out = outputs.get(str(spec.graph[key]))
        if out is None or out.type != "tensor(float)" or list(out.shape[1:]) != width:
            got = "none" if out is None else f"{out.type} {out.shape}"
            raise ModelError(
                f"{path}: expected the output {spec.graph[key]} float32 {['N', *width]}, got {got}; export it again"
            )
