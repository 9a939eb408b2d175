"""A native TensorRT engine as a session: pinned memory, a stream and a CUDA graph of its own per number of faces. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DeviceError, ModelError
from ..contract.spec import ModelSpec
from .cuda_device import card, checked, import_cudart
from .engine_file import check_card, check_version, read_engine, read_sidecar
from .session import Outputs, output_widths, wrong_input, wrong_output
from .tensorrt_versions import import_tensorrt, quiet_logger

MAX_GRAPHS = 64


class TensorRTSession:
    """An engine file, checked against this machine before a byte of it runs."""

    device = "tensorrt"

    def __init__(self, path: Path, spec: ModelSpec) -> None:
        _, self._built = read_sidecar(path)
        data = read_engine(path, self._built)
        trt = import_tensorrt(self._built.library)
        check_version(path, self._built, trt.__version__)
        here = card()
        check_card(path, self._built, here.name, here.compute_capability)
        self._trt, self._cuda, self._zero_copy = trt, import_cudart(), here.integrated
        self._logger = quiet_logger(trt)
        runtime = trt.Runtime(self._logger)
        if "version-compatible" in self._built.flags:
            runtime.engine_host_code_allowed = True
        self._engine = runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise ModelError(
                f"{path}: {trt.__name__} {trt.__version__} cannot open the engine; build it again: numclip engine"
            )
        check_engine(trt, self._engine, spec, path)
        self._context = self._engine.create_execution_context()
        self._stream = checked(self._cuda.cudaStreamCreateWithFlags(self._cuda.cudaStreamNonBlocking))
        side, most = spec.crop.side, self._built.max_batch
        self._input = spec.graph.input
        self._names = spec.graph.outputs
        self._memory = {self._input: _Memory(self._cuda, (most, side, side, 3), np.uint8, self._zero_copy)}
        for name, width in output_widths(spec).items():
            self._memory[name] = _Memory(self._cuda, (most, *width), np.float32, self._zero_copy)
        for name, memory in self._memory.items():
            self._context.set_tensor_address(name, memory.device)
        self._graphs: dict[int, Any] = {}

    def run(self, crops: npt.NDArray[np.uint8]) -> Outputs:
        """crops: uint8 [N, S, S, 3] RGB, N >= 1; more than the engine's largest batch run in several calls."""
        most = self._built.max_batch
        parts = [self._run(crops[i : i + most]) for i in range(0, len(crops), most)]
        value, probabilities, embedding = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Outputs(value, probabilities, embedding)

    def describe(self) -> dict[str, Any]:
        """Library, version, device and card."""
        return {
            "library": self._built.library,
            "version": self._trt.__version__,
            "device": self.device,
            "gpu": self._built.gpu,
            "threads": None,
        }

    def _run(self, crops: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        n = len(crops)
        self._memory[self._input].host[:n] = crops
        graph = self._graphs.get(n) or self._captured(n)
        checked(self._cuda.cudaGraphLaunch(graph, self._stream))
        checked(self._cuda.cudaStreamSynchronize(self._stream))
        return [self._memory[name].host[:n].copy() for name in self._names]

    def _captured(self, n: int) -> Any:
        """The copies and the engine for n faces as one CUDA graph; a first run outside of it lets TensorRT set itself up."""
        side = self._memory[self._input].host.shape[1]
        self._context.set_input_shape(self._input, (n, side, side, 3))
        self._enqueue(n)
        checked(self._cuda.cudaStreamSynchronize(self._stream))
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(self._cuda.cudaStreamBeginCapture(self._stream, mode))
        self._enqueue(n)
        graph = checked(self._cuda.cudaStreamEndCapture(self._stream))
        if len(self._graphs) >= MAX_GRAPHS:
            checked(self._cuda.cudaGraphExecDestroy(self._graphs.pop(next(iter(self._graphs)))))
        self._graphs[n] = checked(self._cuda.cudaGraphInstantiate(graph, 0))
        checked(self._cuda.cudaGraphDestroy(graph))
        return self._graphs[n]

    def _enqueue(self, n: int) -> None:
        kinds = self._cuda.cudaMemcpyKind
        if not self._zero_copy:
            self._memory[self._input].copy(n, self._stream, kinds.cudaMemcpyHostToDevice)
        if not self._context.execute_async_v3(int(self._stream)):
            raise DeviceError("device tensorrt: the engine failed to run; check the card with nvidia-smi")
        if not self._zero_copy:
            for name in self._names:
                self._memory[name].copy(n, self._stream, kinds.cudaMemcpyDeviceToHost)


class _Memory:
    """Pinned memory of the host, and the card's own beside it; on a card that shares memory they are the same."""

    def __init__(self, cuda: Any, shape: tuple[int, ...], dtype: type, shared: bool) -> None:
        self._cuda, item = cuda, np.dtype(dtype).itemsize
        total = item * int(np.prod(shape))
        pointer = checked(cuda.cudaHostAlloc(total, cuda.cudaHostAllocMapped))
        self.address = int(pointer)
        self.host: Any = _view(self.address, total).view(dtype).reshape(shape)
        self.device = int(
            checked(cuda.cudaHostGetDevicePointer(pointer, 0)) if shared else checked(cuda.cudaMalloc(total))
        )
        self._per_face = total // shape[0]

    def copy(self, n: int, stream: Any, kind: Any) -> None:
        """Queue the copy of the first n faces, to the card or from it."""
        to_card = kind == self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        target, source = (self.device, self.address) if to_card else (self.address, self.device)
        checked(self._cuda.cudaMemcpyAsync(target, source, n * self._per_face, kind, stream))


def check_engine(trt: Any, engine: Any, spec: ModelSpec, path: Path) -> None:
    """The engine's tensors must be the ones the spec promises."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    crops, side = spec.graph.input, spec.crop.side
    shape = list(engine.get_tensor_shape(crops)) if crops in names else None
    if shape is None or engine.get_tensor_dtype(crops) != trt.uint8 or shape[1:] != [side, side, 3]:
        raise wrong_input(path, crops, side, str(shape))
    for output, width in output_widths(spec).items():
        shape = list(engine.get_tensor_shape(output)) if output in names else None
        if shape is None or engine.get_tensor_dtype(output) != trt.float32 or shape[1:] != width:
            raise wrong_output(path, output, width, str(shape))


def _view(address: int, size: int) -> Any:
    """Bytes at an address as an array; they belong to CUDA and live as long as the process."""
    import ctypes

    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
