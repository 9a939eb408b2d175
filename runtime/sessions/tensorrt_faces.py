"""A face finder in TensorRT: the engine holds the graph up to its candidates, and suppression follows on the CPU.

So every shape is known before the engine runs, TensorRT-RTX, which has no suppression, builds it too, and it may be FP16.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DeviceError, ModelError
from ..contract.faces_spec import CANDIDATES, INPUT, FacesSpec
from .cuda_device import card, checked, import_cudart
from .engine_file import check_card, check_version, read_engine, read_faces_sidecar
from .faces_session import Found
from .tensorrt_versions import import_tensorrt, quiet_logger

Floats = npt.NDArray[np.float32]


def suppress(boxes: Floats, scores: Floats, score_threshold: float, overlap_threshold: float) -> npt.NDArray[np.intp]:
    """What the graph's own suppression keeps of one picture's candidates [C, 4], [C], in its order: best score first."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > score_threshold]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    kept: list[int] = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        low, high = np.maximum(boxes[order, :2], boxes[best, :2]), np.minimum(boxes[order, 2:], boxes[best, 2:])
        shared = (high - low).clip(0).prod(axis=1)
        union = areas[order] + areas[best] - shared
        order = order[shared <= overlap_threshold * union]
    return np.array(kept, np.intp)


def found_of(boxes: Floats, scores: Floats, landmarks: Floats, spec: FacesSpec) -> Found:
    """The faces among the candidates [N, C, 4], [N, C], [N, C, 5, 2] of N pictures."""
    kept = [suppress(b, s, spec.score_threshold, spec.overlap_threshold) for b, s in zip(boxes, scores, strict=True)]
    picture = np.repeat(np.arange(len(kept)), [len(k) for k in kept])
    index = np.concatenate(kept) if kept else np.empty(0, np.intp)
    return Found(picture.astype(np.int64), boxes[picture, index], scores[picture, index], landmarks[picture, index])


def open_tensorrt_faces(path: Path, spec: FacesSpec, device: str) -> TensorRTFaces:
    """An engine file, or the engine of an .onnx from the cache folder, built where there is none that fits."""
    if path.suffix != ".engine":
        from .engine import cached_engine

        path = cached_engine(path, spec)
    elif device not in ("auto", "tensorrt"):
        raise DeviceError(f"{path}: expected --device tensorrt for an engine, got {device}; give the .onnx instead")
    return TensorRTFaces(path)


class TensorRTFaces:
    """A finder's engine, checked against this machine before a byte of it runs. Threads take turns."""

    device = "tensorrt"

    def __init__(self, path: Path) -> None:
        self.spec, self._built = read_faces_sidecar(path)
        data = read_engine(path, self._built)
        trt = import_tensorrt(self._built.library)
        check_version(path, self._built, trt.__version__)
        here = card()
        check_card(path, self._built, here.name, here.compute_capability)
        self._trt, self._cuda, self._logger = trt, import_cudart(), quiet_logger(trt)
        runtime = trt.Runtime(self._logger)
        if "version-compatible" in self._built.flags:
            runtime.engine_host_code_allowed = True
        self._engine: Any = runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise ModelError(
                f"{path}: {trt.__name__} {trt.__version__} cannot open the engine; build it again: numclip engine"
            )
        names = {self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)}
        if names != {INPUT, *CANDIDATES}:
            raise ModelError(f"{path}: expected the tensors of a face finder, got {', '.join(sorted(names))}")
        self._context = self._engine.create_execution_context()
        self._stream = checked(self._cuda.cudaStreamCreateWithFlags(self._cuda.cudaStreamNonBlocking))
        self._card: dict[str, tuple[int, int]] = {}  # tensor: address on the card, bytes
        self._turn = threading.Lock()

    def run(self, pictures: npt.NDArray[np.uint8]) -> Found:
        """pictures: uint8 [N, H, W, 3] BGR, N >= 1; more than the engine's largest batch run in several calls."""
        most = self._built.max_batch
        with self._turn:
            parts = [self._run(pictures[i : i + most]) for i in range(0, len(pictures), most)]
        boxes, scores, landmarks = (np.concatenate(part) for part in zip(*parts, strict=True))
        return found_of(boxes, scores, landmarks, self.spec)

    def describe(self) -> dict[str, Any]:
        """Library, version, device and card."""
        return {
            "library": self._built.library,
            "version": self._trt.__version__,
            "device": self.device,
            "gpu": self._built.gpu,
            "threads": None,
        }

    def _run(self, pictures: npt.NDArray[np.uint8]) -> list[Floats]:
        kinds = self._cuda.cudaMemcpyKind
        pictures = np.ascontiguousarray(pictures)
        if not self._context.set_input_shape(INPUT, pictures.shape):
            raise DeviceError(
                f"device tensorrt: expected pictures up to what the engine was built for, got {list(pictures.shape)}; "
                "build it again with a larger --max-side: numclip engine"
            )
        outputs = [np.empty(tuple(self._context.get_tensor_shape(name)), np.float32) for name in CANDIDATES]
        for name, array in zip((INPUT, *CANDIDATES), (pictures, *outputs), strict=True):
            self._context.set_tensor_address(name, self._memory(name, array.nbytes))
        self._copy(self._card[INPUT][0], pictures.ctypes.data, pictures.nbytes, kinds.cudaMemcpyHostToDevice)
        if not self._context.execute_async_v3(int(self._stream)):
            raise DeviceError("device tensorrt: the engine failed to run; check the card with nvidia-smi")
        for name, array in zip(CANDIDATES, outputs, strict=True):
            self._copy(array.ctypes.data, self._card[name][0], array.nbytes, kinds.cudaMemcpyDeviceToHost)
        checked(self._cuda.cudaStreamSynchronize(self._stream))
        return outputs

    def _memory(self, name: str, size: int) -> int:
        """An address on the card with room for so many bytes; it grows with the largest picture."""
        address, room = self._card.get(name, (0, 0))
        if room < size:
            if address:
                checked(self._cuda.cudaFree(address))
            address = int(checked(self._cuda.cudaMalloc(size)))
            self._card[name] = address, size
        return address

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        checked(self._cuda.cudaMemcpyAsync(target, source, size, kind, self._stream))
