"""`--device auto`: the choice of the library that runs a graph. It follows a fixed rule, so that a busy machine chooses the same.

CUDA is chosen if ONNX Runtime offers it. On a CPU, OpenVINO is chosen if it is installed and the graph has at least OPENVINO_FROM
multiply-adds per face, else ONNX Runtime (measured with `numclip bench`, docs/bench_card.md). A library is skipped with a
warning if it does not start or fails to run, or if its values for fixed pictures differ by more than FLOAT_LIMIT from those of ONNX Runtime on
the CPU. The precision is always that of the file.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ...errors import NumclipError
from ..contract.spec import ModelSpec
from .onnx_graph import OnnxGraph, offers_cuda
from .openvino_graph import OpenVINOGraph
from .session import Crops, CropSession, Outputs, Session

OPENVINO_FROM = 1e9
FLOAT_LIMIT = 0.02 / 120  # of the task's range: largest mean difference between libraries for one file
PROBES = 8

_log = logging.getLogger(__name__)


def choose(path: Path, spec: ModelSpec, threads: int | None = None) -> Session:
    """The session that the rule above chooses for an .onnx file; its `facts` say what was chosen.

    Raises ModelError if not even ONNX Runtime on the CPU opens and runs the file.
    """
    first = CropSession(path, spec, OnnxGraph(path, "cpu", threads))
    preferred = _preferred(path, spec, threads)
    if not preferred:
        return first
    crops, limit = probe_crops(spec.crop.side, PROBES), FLOAT_LIMIT * (spec.task.high - spec.task.low)
    try:
        expected = first.run(crops)
    except NumclipError:
        first.close()
        raise
    for device, open_graph in preferred:
        session: Session | None = None
        try:
            session = CropSession(path, spec, open_graph())
            apart = distance(session.run(crops), expected)
        except NumclipError as error:
            reason = str(error)
        else:
            if apart <= limit:
                first.close()
                return session
            reason = f"its values differ by {apart:.3g} {spec.task.unit} (at most {limit:.3g} is allowed)"
        if session is not None:
            session.close()
        _log.warning("--device auto skips %s: %s", device, reason)
    return first


def _preferred(
    path: Path, spec: ModelSpec, threads: int | None
) -> list[tuple[str, Callable[[], OnnxGraph | OpenVINOGraph]]]:
    """What is preferred to ONNX Runtime on the CPU on this machine, best first."""
    found: list[tuple[str, Callable[[], OnnxGraph | OpenVINOGraph]]] = []
    if offers_cuda():
        found.append(("cuda", lambda: OnnxGraph(path, "cuda", threads, keep_on_card=True)))
    if importlib.util.find_spec("openvino") is not None and (spec.graph.multiply_adds or 0) >= OPENVINO_FROM:
        found.append(("openvino", lambda: OpenVINOGraph(path, "openvino", threads)))
    return found


def probe_crops(side: int, n: int) -> Crops:
    """n synthetic smooth pictures [n, S, S, 3], the same on every machine."""
    random = np.random.default_rng(0)
    rough = random.integers(0, 256, (n, 7, 7, 3)).astype(np.float32)
    return np.stack([cv2.resize(r, (side, side), interpolation=cv2.INTER_LINEAR) for r in rough]).astype(np.uint8)


def distance(got: Outputs, expected: Outputs) -> float:
    """The mean difference of the values; infinite if any number is not finite."""
    if not all(np.isfinite(a).all() for a in (got.value, got.probabilities, got.embedding)):
        return float("inf")
    return float(np.abs(got.value.astype(np.float64) - expected.value).mean())
