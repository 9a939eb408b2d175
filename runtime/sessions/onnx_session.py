"""ONNX Runtime as a session: the CPU, CUDA with everything kept on the card, or its TensorRT provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DeviceError, ModelError
from ..contract.spec import ModelSpec
from ..places import cache_dir
from .session import Outputs, output_widths, wrong_input, wrong_output

PROVIDER = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# It puts int8 weights, one step for a whole layer, where an INT8 file keeps a layer in float because int8 costs it years.
NOT_WANTED = ["WeightBiasQuantization"]
MAX_CUDA_BATCHES = 16  # batch sizes whose buffers and CUDA graph are kept


class OnnxSession:
    """A graph in ONNX Runtime."""

    def __init__(self, path: Path, spec: ModelSpec, device: str, threads: int | None) -> None:
        import onnxruntime as ort

        self.device, self._library, self._threads = device, ort, threads
        check_offered(device, ort.get_available_providers())
        self._names = spec.graph.outputs
        self._input = spec.graph.input
        self._widths = output_widths(spec)
        self._session: Any = None
        for providers in providers_of(device, ort.__version__):
            try:
                self._session = ort.InferenceSession(
                    str(path), session_options(ort, threads), providers=providers, disabled_optimizers=NOT_WANTED
                )
                break
            except Exception as error:  # onnxruntime's own exceptions share no base
                reason = str(error).splitlines()[0][:200]
        if self._session is None:
            raise ModelError(
                f"{path}: ONNX Runtime {ort.__version__} cannot open the graph ({reason}); export it again"  # pyright: ignore[reportPossiblyUnboundVariable]
            )
        running = self._session.get_providers()
        if device != "cpu" and PROVIDER[device] not in running:
            raise DeviceError(
                f"device {device}: expected {PROVIDER[device]}, it failed to start and {running[0]} took over; "
                "check the driver with nvidia-smi or say --device cpu"
            )
        _check_graph(self._session, spec, path)
        self._bound: dict[int, _Bound] = {}

    def run(self, crops: npt.NDArray[np.uint8]) -> Outputs:
        """crops: uint8 [N, S, S, 3] RGB, N >= 1."""
        if self.device == "cpu":
            answers = self._session.run(self._names, {self._input: crops})
        else:
            answers = self._run_bound(crops)
        value, probabilities, embedding = (np.asarray(a) for a in answers)
        return Outputs(value, probabilities, embedding)

    def describe(self) -> dict[str, Any]:
        """Library, version, device and threads."""
        return {
            "library": "onnxruntime",
            "version": self._library.__version__,
            "device": self.device,
            "providers": self._session.get_providers(),
            "threads": self._threads,
        }

    def _run_bound(self, crops: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        """Run with input and outputs bound to memory of the card; each batch size keeps its own, and its CUDA graph."""
        n = len(crops)
        bound = self._bound.get(n)
        if bound is None:
            if len(self._bound) >= MAX_CUDA_BATCHES:
                self._bound.pop(next(iter(self._bound)))
            bound = self._bound[n] = _Bound(self._library, self._session, self._input, crops, self._widths)
        bound.crops.update_inplace(crops)
        self._session.run_with_iobinding(bound.binding, bound.options)
        return [bound.outputs[name].numpy() for name in self._names]


class _Bound:
    """Memory of the card for one batch size."""

    def __init__(self, ort: Any, session: Any, name: str, crops: npt.NDArray[np.uint8], widths: dict[str, list[int]]):
        self.crops = ort.OrtValue.ortvalue_from_numpy(crops, "cuda", 0)
        self.outputs = {
            output: ort.OrtValue.ortvalue_from_shape_and_type([len(crops), *width], np.float32, "cuda", 0)
            for output, width in widths.items()
        }
        self.binding = session.io_binding()
        self.binding.bind_ortvalue_input(name, self.crops)
        for output, value in self.outputs.items():
            self.binding.bind_ortvalue_output(output, value)
        self.options = ort.RunOptions()
        self.options.add_run_config_entry("gpu_graph_id", str(len(crops)))  # one CUDA graph per batch size


def check_offered(device: str, offered: list[str]) -> None:
    """Raise DeviceError where this ONNX Runtime does not offer the device."""
    if PROVIDER[device] in offered:
        return
    line = 'pip install "numclip[gpu]" in place of numclip[cpu]'
    if device == "tensorrt":
        raise DeviceError(
            "device tensorrt: expected the package tensorrt, or an onnxruntime with TensorrtExecutionProvider, this one "
            f'offers {", ".join(offered)}; pip install tensorrt "numclip[tensorrt]" (on a Jetson TensorRT is a system '
            f"package: python -m venv --system-site-packages), or {line}, or say --device cpu"
        )
    raise DeviceError(
        f"device {device}: expected {PROVIDER[device]}, this onnxruntime offers {', '.join(offered)}; {line}, or say --device cpu"
    )


def session_options(ort: Any, threads: int | None) -> Any:
    """Quiet, with so many CPU threads; None for the library's choice."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only; we report ours
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    return options


def providers_of(device: str, version: str) -> list[list[Any]]:
    """What to ask for, in order: with a CUDA graph first, then without, where a graph's nodes do not all run on the card."""
    cuda = [(PROVIDER["cuda"], {"enable_cuda_graph": "1", "use_tf32": "0"}), PROVIDER["cpu"]]
    plain = [(PROVIDER["cuda"], {"use_tf32": "0"}), PROVIDER["cpu"]]
    if device == "cpu":
        return [[PROVIDER["cpu"]]]
    if device == "cuda":
        return [cuda, plain]
    folder = cache_dir() / f"tensorrt-onnxruntime-{version}"  # engines and timings die with the version
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        "trt_fp16_enable": "0",  # a typed graph says its types itself
    }
    return [[(PROVIDER["tensorrt"], options), *plain]]


def _check_graph(session: Any, spec: ModelSpec, path: Path) -> None:
    """The graph's tensors must be the ones the spec promises."""
    inputs = {t.name: t for t in session.get_inputs()}
    outputs = {t.name: t for t in session.get_outputs()}
    name, side = spec.graph.input, spec.crop.side
    found = inputs.get(name)
    if found is None or found.type != "tensor(uint8)" or list(found.shape[1:]) != [side, side, 3]:
        raise wrong_input(path, name, side, "none" if found is None else f"{found.type} {found.shape}")
    for output, width in output_widths(spec).items():
        out = outputs.get(output)
        if out is None or out.type != "tensor(float)" or list(out.shape[1:]) != width:
            raise wrong_output(path, output, width, "none" if out is None else f"{out.type} {out.shape}")
