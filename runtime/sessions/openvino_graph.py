"""Graphs in OpenVINO, for Intel and AMD CPUs (extra `openvino`)."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from ...errors import DeviceError, ModelError
from .session import Array, SessionFacts, Tensor

TYPES = {"u8": "uint8", "f32": "float32", "i64": "int64"}


class OpenVINOGraph:
    """A graph in OpenVINO on the CPU, in the graph's own precision, or in bfloat16 if the CPU supports it.

    Threads take turns: only one thread can use an infer request at a time, and with the hint LATENCY one call uses all cores.
    """

    def __init__(self, path: Path, device: str, threads: int | None) -> None:
        """Raises DeviceError if the device is not available, ModelError if the library cannot open the file."""
        openvino = _import_openvino(device)
        core = _core(openvino)
        bfloat = device == "openvino-bf16"
        capabilities = list(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        if bfloat and "BF16" not in capabilities:
            raise DeviceError(
                f"device {device}: needs a CPU with bfloat16, this one has {', '.join(capabilities)}; use --device openvino"
            )
        config: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat else "f32",
        }
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            compiled = core.compile_model(core.read_model(str(path)), "CPU", config)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-200:]
            raise ModelError(
                f"{path}: OpenVINO {openvino.__version__} cannot open the graph ({reason}); use --device cpu"
            ) from None
        self.facts = SessionFacts("openvino", openvino.__version__, device, threads)
        self.inputs, self.outputs = (
            {name: _tensor(port) for port in ports for name in port.get_names()}
            for ports in (compiled.inputs, compiled.outputs)
        )
        self._request: Any = compiled.create_infer_request()
        self._turn = threading.Lock()

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """The outputs of these names, in this order, as new arrays."""
        with self._turn:
            results = self._request.infer(dict(feeds), share_inputs=True)
            return [np.array(results[name]) for name in outputs]

    def close(self) -> None:
        """Free memory and threads; the graph cannot run afterwards."""
        with self._turn:
            self._request = None


@functools.cache
def _core(openvino: Any) -> Any:
    # One for the process, never closed. On CPUs with AMX a core swaps the signal stack of the thread that makes it and puts
    # the former one back when it goes; with several, that one may be gone by then, and the next signal kills the process.
    return openvino.Core()


def _import_openvino(device: str) -> Any:
    # At import OpenVINO would report its use to an analytics server; where that module is missing it keeps quiet.
    # A program that wants the reports imports openvino_telemetry, or openvino itself, before it opens a model.
    modules = cast(dict[str, Any], sys.modules)
    silenced = "openvino" not in modules and "openvino_telemetry" not in modules
    if silenced:
        modules["openvino_telemetry"] = None
    try:
        import openvino
    except ImportError:
        raise DeviceError(
            f'device {device}: needs the package openvino; run: pip install "numclip[openvino]", or use --device cpu'
        ) from None
    finally:
        if silenced:
            del modules["openvino_telemetry"]
    return openvino


def _tensor(port: Any) -> Tensor:
    kind = str(port.get_element_type().get_type_name())
    sizes = list(port.get_partial_shape())[1:]
    return Tensor(TYPES.get(kind, kind), tuple(int(size.get_length()) if size.is_static else None for size in sizes))
