"""Sessions for a face finder's graph: whole pictures in, faces out, on the same devices as the models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ..contract.faces_spec import INPUT, OUTPUTS
from .session import Floats, Graph, SessionFacts, run_graph


@dataclass(frozen=True, eq=False)
class Found:
    """F faces in N pictures, sorted by picture, then by descending score."""

    picture: npt.NDArray[np.int64]  # [F] which of the N
    boxes_xyxy: Floats  # [F, 4] px, inside the picture
    scores: Floats  # [F] 0 to 1
    landmarks: Floats  # [F, 5, 2] px


class FacesSession(Protocol):
    """A face finder's graph, open on a device. Threads may share it."""

    @property
    def facts(self) -> SessionFacts:
        """The library and device that run it."""
        ...

    def run(self, pictures: npt.NDArray[np.uint8]) -> Found:
        """pictures: uint8 [N, H, W, 3] BGR, N >= 1. Raises DeviceError or ModelError if the library fails."""
        ...

    def close(self) -> None:
        """Free memory and threads; it cannot run afterwards."""
        ...


class GraphFaces:
    """A face finder's graph in a library that runs it completely; raises ModelError if its tensors do not match the contract."""

    def __init__(self, path: Path, graph: Graph) -> None:
        if INPUT not in graph.inputs or not set(OUTPUTS) <= set(graph.outputs):
            graph.close()
            names = ", ".join(sorted([*graph.inputs, *graph.outputs]))
            raise ModelError(
                f"{path}: expected input {INPUT} and outputs {', '.join(OUTPUTS)}, got {names}; export it again"
            )
        self.facts, self._graph = graph.facts, graph

    def run(self, pictures: npt.NDArray[np.uint8]) -> Found:
        """pictures: uint8 [N, H, W, 3] BGR, N >= 1. Raises DeviceError or ModelError if the library fails."""
        return Found(*run_graph(self._graph, {INPUT: pictures}, OUTPUTS))

    def close(self) -> None:
        """Free memory and threads; it cannot run afterwards."""
        self._graph.close()


def suppress(boxes: Floats, scores: Floats, score_threshold: float, overlap_threshold: float) -> npt.NDArray[np.intp]:
    """Non-maximum suppression as in the graph: indices of the kept candidates [C, 4], [C] of one picture, by descending score."""
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
