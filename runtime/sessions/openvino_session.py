"""OpenVINO as a session, for Intel and AMD CPUs (extra `openvino`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ...errors import DeviceError, ModelError
from ..contract.spec import ModelSpec
from .session import Outputs, output_widths, wrong_input, wrong_output


class OpenVINOSession:
    """A graph in OpenVINO on the CPU, in the graph's own types, or in bfloat16 where the CPU computes it."""

    def __init__(self, path: Path, spec: ModelSpec, device: str, threads: int | None) -> None:
        # At import OpenVINO would report its use to an analytics server; where that module is missing it keeps quiet.
        cast(dict[str, Any], sys.modules).setdefault("openvino_telemetry", None)
        try:
            import openvino
        except ImportError:
            raise DeviceError(
                f'device {device}: expected the package openvino; pip install "numclip[openvino]", or say --device cpu'
            ) from None
        self.device, self._threads, self._version = device, threads, openvino.__version__
        core = openvino.Core()
        bfloat = device == "openvino-bf16"
        capabilities = list(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        if bfloat and "BF16" not in capabilities:
            raise DeviceError(
                f"device {device}: expected a CPU with bfloat16, this one has {', '.join(capabilities)}; say --device openvino"
            )
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat else "f32",
        }
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            compiled: Any = core.compile_model(core.read_model(str(path)), "CPU", config)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-200:]
            raise ModelError(
                f"{path}: OpenVINO {self._version} cannot open the graph ({reason}); say --device cpu"
            ) from None
        _check_graph(compiled, spec, path)
        self._request = compiled.create_infer_request()
        self._input = spec.graph.input
        self._names = spec.graph.outputs

    def run(self, crops: npt.NDArray[np.uint8]) -> Outputs:
        """crops: uint8 [N, S, S, 3] RGB, N >= 1."""
        results = self._request.infer({self._input: crops}, share_inputs=True)
        value, probabilities, embedding = (np.array(results[name]) for name in self._names)
        return Outputs(value, probabilities, embedding)

    def describe(self) -> dict[str, Any]:
        """Library, version, device and threads."""
        return {"library": "openvino", "version": self._version, "device": self.device, "threads": self._threads}


def _check_graph(compiled: Any, spec: ModelSpec, path: Path) -> None:
    """The graph's tensors must be the ones the spec promises."""
    inputs, outputs = ({n: p for p in ports for n in p.get_names()} for ports in (compiled.inputs, compiled.outputs))
    name, side = spec.graph.input, spec.crop.side
    found = inputs.get(name)
    if found is None or found.get_element_type().get_type_name() != "u8" or _shape(found) != [side, side, 3]:
        raise wrong_input(path, name, side, "none" if found is None else str(found))
    for output, width in output_widths(spec).items():
        out = outputs.get(output)
        if out is None or out.get_element_type().get_type_name() != "f32" or _shape(out) != width:
            raise wrong_output(path, output, width, "none" if out is None else str(out))


def _shape(port: Any) -> list[int | str]:
    """A port's shape after N; a size that is not fixed as text."""
    return [int(d.get_length()) if d.is_static else str(d) for d in list(port.get_partial_shape())[1:]]
