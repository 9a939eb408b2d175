"""Sessions run the frozen graph on a device. A device that was asked for and is not there is an error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...errors import DeviceError, ModelError
from ..contract.spec import ModelSpec

DEVICES = ("auto", "cpu", "openvino", "openvino-bf16", "cuda", "tensorrt")


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


def open_session(path: Path, spec: ModelSpec, device: str = "auto", threads: int | None = None) -> Session:
    """Make a model file ready on a device; `auto` takes the fastest that answers rightly here (session_choice.py).

    threads: CPU threads for one run, None for the library's choice. Raises DeviceError, ModelError.
    """
    if device not in DEVICES:
        raise DeviceError(f"expected --device {', '.join(DEVICES)}, got {device!r}")
    if threads is not None and threads < 1:
        raise DeviceError(f"expected at least 1 thread, got {threads}")
    if path.suffix == ".engine":
        if device not in ("auto", "tensorrt"):
            raise DeviceError(f"{path}: expected --device tensorrt for an engine, got {device}; give the .onnx instead")
        from .tensorrt_session import TensorRTSession

        return TensorRTSession(path, spec)
    if device == "auto":
        from .choice import choose

        return choose(path, spec, threads)
    if device.startswith("openvino"):
        from .openvino_session import OpenVINOSession

        return OpenVINOSession(path, spec, device, threads)
    if device == "tensorrt":
        return _open_tensorrt(path, spec, threads)
    from .onnx_session import OnnxSession

    return OnnxSession(path, spec, device, threads)


def _open_tensorrt(path: Path, spec: ModelSpec, threads: int | None) -> Session:
    """TensorRT itself where it is installed, with an engine kept in the cache; else ONNX Runtime's TensorRT provider."""
    from .tensorrt_versions import find_tensorrt

    if find_tensorrt() is None:
        from .onnx_session import OnnxSession

        return OnnxSession(path, spec, "tensorrt", threads)
    from .engine import cached_engine
    from .tensorrt_session import TensorRTSession

    return TensorRTSession(cached_engine(path, spec), spec)


def wrong_input(path: Path, name: str, side: int, got: str) -> ModelError:
    """The error of a graph whose input is not the contract's."""
    return ModelError(f"{path}: expected the input {name} uint8 [N, {side}, {side}, 3], got {got}; export it again")


def wrong_output(path: Path, name: str, width: list[int], got: str) -> ModelError:
    """The error of a graph whose output is not the contract's."""
    return ModelError(f"{path}: expected the output {name} float32 {['N', *width]}, got {got}; export it again")


def output_widths(spec: ModelSpec) -> dict[str, list[int]]:
    """The shape of each output after N, by the graph's name of it."""
    widths: list[list[int]] = [[], [spec.task.num_bins], [spec.graph.embedding_dim]]
    return dict(zip(spec.graph.outputs, widths, strict=True))
