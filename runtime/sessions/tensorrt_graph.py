"""A TensorRT engine without torch: pinned memory, a stream, and a CUDA graph per number of crops."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DeviceError, ModelError
from .cuda_device import card, checked, import_cudart
from .engine_file import Built, check_card, check_version, read_engine
from .session import Array, SessionFacts, Tensor
from .tensorrt_versions import import_tensorrt, quiet_logger

MAX_GRAPHS = 64


class OpenEngine:
    """An engine file, checked against this machine before it is loaded."""

    def __init__(self, path: Path, built: Built) -> None:
        """Raises ModelError if the engine is not for this machine, DeviceError without TensorRT or a GPU."""
        data = read_engine(path, built)
        self.trt = import_tensorrt(built.library)
        check_version(path, built, self.trt.__version__)
        here = card()
        check_card(path, built, here.name, here.compute_capability)
        self.cuda, self.built, self.zero_copy = import_cudart(), built, here.integrated
        self._logger = quiet_logger(self.trt)
        runtime = self.trt.Runtime(self._logger)
        if "version-compatible" in built.flags:
            runtime.engine_host_code_allowed = True
        self.engine: Any = runtime.deserialize_cuda_engine(data)
        if self.engine is None:
            raise ModelError(
                f"{path}: {self.trt.__name__} {self.trt.__version__} cannot open the engine; build it again with numclip "
                "engine"
            )
        self.context: Any = self.engine.create_execution_context()
        self.stream: Any = checked(self.cuda.cudaStreamCreateWithFlags(self.cuda.cudaStreamNonBlocking))
        self.facts = SessionFacts(built.library, self.trt.__version__, "tensorrt", gpu=built.gpu)

    def tensors(self, mode: str) -> dict[str, Tensor]:
        """The engine's inputs (mode "INPUT") or outputs ("OUTPUT")."""
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        wanted = getattr(self.trt.TensorIOMode, mode)
        return {name: self._tensor(name) for name in names if self.engine.get_tensor_mode(name) == wanted}

    def execute(self) -> None:
        """Queue the engine on the stream; raises DeviceError if that fails."""
        if not self.context.execute_async_v3(int(self.stream)):
            raise DeviceError("device tensorrt: the engine failed to run; check the GPU with nvidia-smi")

    def synchronise(self) -> None:
        """Wait for everything in the queue."""
        checked(self.cuda.cudaStreamSynchronize(self.stream))

    def close(self) -> None:
        """Free the engine and its stream."""
        if self.stream is not None:
            self.synchronise()
            self.context = self.engine = None
            checked(self.cuda.cudaStreamDestroy(self.stream))
            self.stream = None

    def _tensor(self, name: str) -> Tensor:
        dtype = np.dtype(self.trt.nptype(self.engine.get_tensor_dtype(name))).name
        sizes = tuple(self.engine.get_tensor_shape(name))[1:]
        return Tensor(dtype, tuple(size if size >= 0 else None for size in sizes))


class TensorRTGraph:
    """An engine of a model that reads crops. Threads take turns: the memory and the context are shared."""

    def __init__(self, path: Path, built: Built) -> None:
        """Raises ModelError if the engine is not for this machine, DeviceError without TensorRT or a GPU."""
        self._open = OpenEngine(path, built)
        self.facts, self._cuda = self._open.facts, self._open.cuda
        self.inputs, self.outputs = self._open.tensors("INPUT"), self._open.tensors("OUTPUT")
        self._memory = {
            name: _Memory(self._cuda, built.max_batch, tensor, self._open.zero_copy)
            for name, tensor in {**self.inputs, **self.outputs}.items()
        }
        for name, memory in self._memory.items():
            self._open.context.set_tensor_address(name, memory.device)
        self._graphs: dict[int, Any] = {}
        self._turn = threading.Lock()

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """The outputs of these names, in this order; more than the engine's largest batch take several calls."""
        ((name, array),) = feeds.items()
        most = self._open.built.max_batch
        with self._turn:
            parts = [self._run(name, array[i : i + most], outputs) for i in range(0, len(array), most)]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def close(self) -> None:
        """Free the memory of host and GPU; the graph cannot run afterwards."""
        with self._turn:
            while self._graphs:
                checked(self._cuda.cudaGraphExecDestroy(self._graphs.popitem()[1]))
            self._open.close()
            while self._memory:
                self._memory.popitem()[1].close()

    def _run(self, name: str, array: Array, outputs: Sequence[str]) -> list[Array]:
        n = len(array)
        self._memory[name].host[:n] = array
        graph = self._graphs.get(n) or self._captured(name, array.shape)
        checked(self._cuda.cudaGraphLaunch(graph, self._open.stream))
        self._open.synchronise()
        return [self._memory[output].host[:n].copy() for output in outputs]

    def _captured(self, name: str, shape: tuple[int, ...]) -> Any:
        """The copies and the engine for n crops as one CUDA graph; a first run outside it lets TensorRT initialise."""
        n, stream = shape[0], self._open.stream
        self._open.context.set_input_shape(name, shape)
        self._enqueue(n)
        self._open.synchronise()
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(self._cuda.cudaStreamBeginCapture(stream, mode))
        self._enqueue(n)
        graph = checked(self._cuda.cudaStreamEndCapture(stream))
        if len(self._graphs) >= MAX_GRAPHS:
            checked(self._cuda.cudaGraphExecDestroy(self._graphs.pop(next(iter(self._graphs)))))
        self._graphs[n] = checked(self._cuda.cudaGraphInstantiate(graph, 0))
        checked(self._cuda.cudaGraphDestroy(graph))
        return self._graphs[n]

    def _enqueue(self, n: int) -> None:
        kinds = self._cuda.cudaMemcpyKind
        if not self._open.zero_copy:
            for name in self.inputs:
                self._memory[name].copy(n, self._open.stream, kinds.cudaMemcpyHostToDevice)
        self._open.execute()
        if not self._open.zero_copy:
            for name in self.outputs:
                self._memory[name].copy(n, self._open.stream, kinds.cudaMemcpyDeviceToHost)


class _Memory:
    """Pinned host memory, and GPU memory for it; on a GPU that shares the host's memory they are the same."""

    def __init__(self, cuda: Any, most: int, tensor: Tensor, shared: bool) -> None:
        shape = (most, *(int(size or 0) for size in tensor.sizes))
        self._cuda, self._shared = cuda, shared
        total = np.dtype(tensor.dtype).itemsize * int(np.prod(shape))
        self._pointer: Any = checked(cuda.cudaHostAlloc(total, cuda.cudaHostAllocMapped))
        self.address = int(self._pointer)
        self.host: Array = _view(self.address, total).view(tensor.dtype).reshape(shape)
        self._on_card: Any = (
            checked(cuda.cudaHostGetDevicePointer(self._pointer, 0)) if shared else checked(cuda.cudaMalloc(total))
        )
        self.device = int(self._on_card)
        self._per_face = total // most

    def copy(self, n: int, stream: Any, kind: Any) -> None:
        """Queue the copy of the first n, to the GPU or from it."""
        to_card = kind == self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        target, source = (self.device, self.address) if to_card else (self.address, self.device)
        checked(self._cuda.cudaMemcpyAsync(target, source, n * self._per_face, kind, stream))

    def close(self) -> None:
        """Free it; arrays that view it become invalid."""
        self.host = np.empty(0)
        if not self._shared:
            checked(self._cuda.cudaFree(self._on_card))
        checked(self._cuda.cudaFreeHost(self._pointer))


def _view(address: int, size: int) -> Array:
    """An array that views bytes at an address; CUDA owns them."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
