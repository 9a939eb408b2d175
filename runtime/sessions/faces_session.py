"""Sessions for a face finder's graph: whole pictures in, what is found out, on the devices that the models run on."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from ...errors import DeviceError, ModelError
from ..contract.faces_spec import INPUT, OUTPUTS, FacesSpec
from .onnx_session import NOT_WANTED, check_offered, providers_of, session_options
from .session import DEVICES

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Found:
    """F faces in N pictures, by picture, the best score first."""

    picture: npt.NDArray[np.int64]  # [F] which of the N
    boxes_xyxy: Floats  # [F, 4] px, inside the picture
    scores: Floats  # [F] 0 to 1
    landmarks: Floats  # [F, 5, 2] px


class FacesSession(Protocol):
    """A finder's graph made ready on a device. Threads may share it."""

    device: str

    def run(self, pictures: npt.NDArray[np.uint8]) -> Found:
        """pictures: uint8 [N, H, W, 3] BGR, N >= 1."""
        ...

    def describe(self) -> dict[str, Any]:
        """What runs it, for reports: library, version, device, threads."""
        ...


def open_faces_session(path: Path, spec: FacesSpec, device: str = "auto", threads: int | None = None) -> FacesSession:
    """Make a finder ready on a device; `auto` is ONNX Runtime, on the GPU where it offers one.

    threads: CPU threads for one run, None for the library's choice. Raises DeviceError, ModelError.
    """
    if device not in DEVICES:
        raise DeviceError(f"expected --device {', '.join(DEVICES)}, got {device!r}")
    if path.suffix == ".engine" or device == "tensorrt":
        from .tensorrt_faces import open_tensorrt_faces

        return open_tensorrt_faces(path, spec, device)
    if device.startswith("openvino"):
        return OpenVINOFaces(path, device, threads)
    return OnnxFaces(path, device, threads)


class OnnxFaces:
    """A finder in ONNX Runtime: on the CPU, or on CUDA."""

    def __init__(self, path: Path, device: str, threads: int | None) -> None:
        import onnxruntime as ort

        offered = ort.get_available_providers()
        if device == "auto":
            device = "cuda" if "CUDAExecutionProvider" in offered else "cpu"
        check_offered(device, offered)
        self.device, self._threads, self._version = device, threads, ort.__version__
        try:
            self._session: Any = ort.InferenceSession(
                str(path),
                session_options(ort, threads),
                providers=providers_of(device, ort.__version__)[-1],  # without a CUDA graph: sizes change
                disabled_optimizers=NOT_WANTED,
            )
        except Exception as error:  # onnxruntime's own exceptions share no base
            reason = str(error).splitlines()[0][:200]
            raise ModelError(
                f"{path}: ONNX Runtime {ort.__version__} cannot open the graph ({reason}); export it again"
            ) from None
        _check_names(path, {t.name for t in self._session.get_inputs()}, {t.name for t in self._session.get_outputs()})

    def run(self, pictures: npt.NDArray[np.uint8]) -> Found:
        """pictures: uint8 [N, H, W, 3] BGR, N >= 1."""
        return Found(*self._session.run(list(OUTPUTS), {INPUT: pictures}))

    def describe(self) -> dict[str, Any]:
        """Library, version, device and threads."""
        return {
            "library": "onnxruntime",
            "version": self._version,
            "device": self.device,
            "providers": self._session.get_providers(),
            "threads": self._threads,
        }


class OpenVINOFaces:
    """A finder in OpenVINO on the CPU, in float32 or, by name, in bfloat16."""

    def __init__(self, path: Path, device: str, threads: int | None) -> None:
        # At import OpenVINO would report its use to an analytics server; where that module is missing it keeps quiet.
        cast(dict[str, Any], sys.modules).setdefault("openvino_telemetry", None)
        try:
            import openvino
        except ImportError:
            raise DeviceError(
                f'device {device}: expected the package openvino; pip install "numclip[openvino]", or say --device cpu'
            ) from None
        self.device, self._threads, self._version = device, threads, openvino.__version__
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if device == "openvino-bf16" else "f32",
        }
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        try:
            compiled: Any = core.compile_model(core.read_model(str(path)), "CPU", config)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-200:]
            raise ModelError(
                f"{path}: OpenVINO {self._version} cannot open the graph ({reason}); say --device cpu"
            ) from None
        inputs, outputs = (
            {name for port in ports for name in port.get_names()} for ports in (compiled.inputs, compiled.outputs)
        )
        _check_names(path, inputs, outputs)
        self._request, self._turn = compiled.create_infer_request(), threading.Lock()

    def run(self, pictures: npt.NDArray[np.uint8]) -> Found:
        """pictures: uint8 [N, H, W, 3] BGR, N >= 1."""
        with self._turn:
            results = self._request.infer({INPUT: pictures}, share_inputs=True)
            return Found(*(np.array(results[name]) for name in OUTPUTS))

    def describe(self) -> dict[str, Any]:
        """Library, version, device and threads."""
        return {"library": "openvino", "version": self._version, "device": self.device, "threads": self._threads}


def _check_names(path: Path, inputs: set[str], outputs: set[str]) -> None:
    """The graph's tensors must be the contract's."""
    if INPUT not in inputs or not set(OUTPUTS) <= outputs:
        raise ModelError(
            f"{path}: expected {INPUT} in and {', '.join(OUTPUTS)} out, got {', '.join(sorted(inputs | outputs))}; "
            "export it again"
        )
