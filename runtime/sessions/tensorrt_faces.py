"""A face finder in TensorRT: the engine computes the candidates, and the CPU does the suppression.

This way every shape is known before the engine runs, TensorRT-RTX can build it although it has no suppression, and it may be FP16.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DeviceError, ModelError
from ..contract.faces_spec import CANDIDATES, INPUT, FacesSpec
from .cuda_device import checked
from .engine_build import cached_engine
from .engine_file import read_faces_sidecar
from .faces_session import Found, suppress
from .tensorrt_graph import OpenEngine

Floats = npt.NDArray[np.float32]


def found_of(boxes: Floats, scores: Floats, landmarks: Floats, spec: FacesSpec) -> Found:
    """The faces among the candidates [N, C, 4], [N, C], [N, C, 5, 2] of N pictures."""
    kept = [suppress(b, s, spec.score_threshold, spec.overlap_threshold) for b, s in zip(boxes, scores, strict=True)]
    picture = np.repeat(np.arange(len(kept)), [len(k) for k in kept])
    index = np.concatenate(kept) if kept else np.empty(0, np.intp)
    return Found(picture.astype(np.int64), boxes[picture, index], scores[picture, index], landmarks[picture, index])


def open_tensorrt_faces(path: Path, device: str) -> TensorRTFaces:
    """Open an engine file, or the cached engine of an .onnx file; it is built if none fits this machine."""
    if path.suffix != ".engine":
        path = cached_engine(path)
    elif device not in ("auto", "tensorrt"):
        raise DeviceError(
            f"{path}: an engine needs --device tensorrt, got {device}; change --device, or give the .onnx file"
        )
    return TensorRTFaces(path)


class TensorRTFaces:
    """A face finder's engine. Threads take turns."""

    def __init__(self, path: Path) -> None:
        """Raises ModelError if the engine is not for this machine, DeviceError without TensorRT or a GPU."""
        self._spec, built = read_faces_sidecar(path)
        self._open = OpenEngine(path, built)
        self.facts, self._cuda = self._open.facts, self._open.cuda
        inputs, outputs = self._open.tensors("INPUT"), self._open.tensors("OUTPUT")
        if set(inputs) != {INPUT} or set(outputs) != set(CANDIDATES):
            names = ", ".join(sorted([*inputs, *outputs]))
            raise ModelError(
                f"{path}: expected the tensors of a face detector, got {names}; give a face detector's file"
            )
        self._card: dict[str, tuple[Any, int]] = {}  # tensor: GPU memory, bytes
        self._turn = threading.Lock()

    def run(self, pictures: npt.NDArray[np.uint8]) -> Found:
        """pictures: uint8 [N, H, W, 3] BGR, N >= 1; more than the engine's largest batch take several calls."""
        most = self._open.built.max_batch
        with self._turn:
            parts = [self._run(pictures[i : i + most]) for i in range(0, len(pictures), most)]
        boxes, scores, landmarks = (np.concatenate(part) for part in zip(*parts, strict=True))
        return found_of(boxes, scores, landmarks, self._spec)

    def close(self) -> None:
        """Free the GPU memory; the session cannot run afterwards."""
        with self._turn:
            self._open.close()
            while self._card:
                checked(self._cuda.cudaFree(self._card.popitem()[1][0]))

    def _run(self, pictures: npt.NDArray[np.uint8]) -> list[Floats]:
        kinds, context = self._cuda.cudaMemcpyKind, self._open.context
        pictures = np.ascontiguousarray(pictures)
        if not context.set_input_shape(INPUT, pictures.shape):
            raise DeviceError(
                f"device tensorrt: the engine was built for smaller pictures or batches than {list(pictures.shape)}; build "
                "it again: numclip engine with a larger --max-side or --max-batch"
            )
        outputs = [np.empty(tuple(context.get_tensor_shape(name)), np.float32) for name in CANDIDATES]
        for name, array in zip((INPUT, *CANDIDATES), (pictures, *outputs), strict=True):
            context.set_tensor_address(name, int(self._memory(name, array.nbytes)))
        self._copy(int(self._card[INPUT][0]), pictures.ctypes.data, pictures.nbytes, kinds.cudaMemcpyHostToDevice)
        self._open.execute()
        for name, array in zip(CANDIDATES, outputs, strict=True):
            self._copy(array.ctypes.data, int(self._card[name][0]), array.nbytes, kinds.cudaMemcpyDeviceToHost)
        self._open.synchronise()
        return outputs

    def _memory(self, name: str, size: int) -> Any:
        """GPU memory for at least this many bytes; it grows with the largest picture."""
        memory, room = self._card.get(name, (None, 0))
        if room < size:
            if memory is not None:
                checked(self._cuda.cudaFree(memory))
            memory = checked(self._cuda.cudaMalloc(size))
            self._card[name] = memory, size
        return memory

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        checked(self._cuda.cudaMemcpyAsync(target, source, size, kind, self._open.stream))
