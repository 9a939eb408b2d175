"""Sessions for a face finder's graph: whole pictures in, what is found out, on the devices that the models run on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ..contract.faces_spec import INPUT, OUTPUTS
from .session import Floats, Graph, SessionFacts


@dataclass(frozen=True, eq=False)
class Found:
    """F faces in N pictures, by picture, the best score first."""

    picture: npt.NDArray[np.int64]  # [F] which of the N
    boxes_xyxy: Floats  # [F, 4] px, inside the picture
    scores: Floats  # [F] 0 to 1
    landmarks: Floats  # [F, 5, 2] px


class FacesSession(Protocol):
    """A finder's graph made ready on a device. Threads may share it."""

    @property
    def facts(self) -> SessionFacts:
        """What runs it."""
        ...

    def run(self, pictures: npt.NDArray[np.uint8]) -> Found:
        """pictures: uint8 [N, H, W, 3] BGR, N >= 1."""
        ...

    def close(self) -> None:
        """Give memory and threads back; nothing runs afterwards."""
        ...


class GraphFaces:
    """A finder's graph in a library that runs it whole; raises ModelError where its tensors are not the contract's."""

    def __init__(self, path: Path, graph: Graph) -> None:
        if INPUT not in graph.inputs or not set(OUTPUTS) <= set(graph.outputs):
            graph.close()
            names = ", ".join(sorted([*graph.inputs, *graph.outputs]))
            raise ModelError(f"{path}: expected {INPUT} in and {', '.join(OUTPUTS)} out, got {names}; export it again")
        self.facts, self._graph = graph.facts, graph

    def run(self, pictures: npt.NDArray[np.uint8]) -> Found:
        """pictures: uint8 [N, H, W, 3] BGR, N >= 1."""
        return Found(*self._graph.run({INPUT: pictures}, OUTPUTS))

    def close(self) -> None:
        """Give memory and threads back; nothing runs afterwards."""
        self._graph.close()


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
