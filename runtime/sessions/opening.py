"""Open a model file on a device. A requested device that is not available is an error."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from ...errors import DeviceError, NumclipError
from ..contract.spec import ModelSpec
from .choice import choose
from .engine_build import cached_engine
from .engine_file import read_sidecar
from .faces_session import FacesSession, GraphFaces
from .onnx_graph import OnnxGraph, offers_cuda
from .openvino_graph import OpenVINOGraph
from .session import DEVICES, CropSession, Graph, Session
from .tensorrt_faces import open_tensorrt_faces
from .tensorrt_graph import TensorRTGraph
from .tensorrt_versions import find_tensorrt

PROBE_SIDE_PX = 64  # of the black picture on which a face finder first runs

_log = logging.getLogger(__name__)


def open_session(path: Path, spec: ModelSpec, device: str = "auto", threads: int | None = None) -> Session:
    """Open an .onnx or .engine file on a device; `auto` takes the library that choice.py prefers on this machine.

    threads: CPU threads per call; None: chosen by the library. Raises DeviceError, ModelError.
    """
    check_request(device, threads)
    if path.suffix == ".engine":
        if device not in ("auto", "tensorrt"):
            raise DeviceError(
                f"{path}: an engine needs --device tensorrt, got {device}; change --device, or give the .onnx file"
            )
        return CropSession(path, spec, _engine_graph(path))
    if device == "auto":
        return choose(path, spec, threads)
    return CropSession(path, spec, _graph(path, device, threads))


def check_request(device: str, threads: int | None) -> None:
    """Raise DeviceError for an unknown device, or for less than one thread."""
    if device not in DEVICES:
        raise DeviceError(f"expected a device among {', '.join(DEVICES)}, got {device!r}")
    if threads is not None and threads < 1:
        raise DeviceError(f"expected at least 1 thread, got {threads}")


def _graph(path: Path, device: str, threads: int | None) -> Graph:
    if device.startswith("openvino"):
        return OpenVINOGraph(path, device, threads)
    if device == "tensorrt" and find_tensorrt() is not None:  # with an engine kept in the cache
        return _engine_graph(cached_engine(path))
    return OnnxGraph(path, device, threads, keep_on_card=True)


def _engine_graph(path: Path) -> Graph:
    return TensorRTGraph(path, read_sidecar(path)[1])


def open_faces_session(path: Path, device: str = "auto", threads: int | None = None) -> FacesSession:
    """Open a face finder's .onnx or .engine file on a device; `auto` is ONNX Runtime, on the GPU if that runs it.

    threads: CPU threads per call; None: chosen by the library. Raises DeviceError, ModelError.
    """
    check_request(device, threads)
    if path.suffix == ".engine" or device == "tensorrt":
        return open_tensorrt_faces(path, device)
    if device.startswith("openvino"):
        return GraphFaces(path, OpenVINOGraph(path, device, threads))
    if device == "auto":
        return (_faces_on_cuda(path, threads) if offers_cuda() else None) or open_faces_session(path, "cpu", threads)
    return GraphFaces(path, OnnxGraph(path, device, threads))


def _faces_on_cuda(path: Path, threads: int | None) -> FacesSession | None:
    """A face finder's session on CUDA that has run once; None, with a warning, if it does not start or fails to run."""
    session: FacesSession | None = None
    try:
        session = GraphFaces(path, OnnxGraph(path, "cuda", threads))
        session.run(np.zeros((1, PROBE_SIDE_PX, PROBE_SIDE_PX, 3), np.uint8))
    except NumclipError as error:
        _log.warning("--device auto skips cuda: %s", error)
        if session is not None:
            session.close()
        return None
    return session
