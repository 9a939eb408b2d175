"""Sessions: graphs that are open on a device; several threads may share one.

A library opens a file as a `Graph`: named arrays in, named arrays out. `CropSession` is a model on top of a graph. It checks once
that the graph has the tensors that the spec describes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ...errors import DeviceError, ModelError, NumclipError
from ..contract.spec import ModelSpec

DEVICES = ("auto", "cpu", "openvino", "openvino-bf16", "cuda", "tensorrt")

Array: TypeAlias = "npt.NDArray[Any]"
Floats: TypeAlias = "npt.NDArray[np.float32]"
Crops: TypeAlias = "npt.NDArray[np.uint8]"


@dataclass(frozen=True)
class SessionFacts:
    """The library, version and device that run a graph, for reports."""

    library: str
    version: str  # of the library
    device: str
    threads: int | None = None  # CPU threads per call; None: chosen by the library
    gpu: str | None = None  # the card's name


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph: its type, and its sizes after N; None for a size that is not fixed."""

    dtype: str  # "uint8"
    sizes: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(['N', *('free' if size is None else str(size) for size in self.sizes)])}]"


class Graph(Protocol):
    """A graph in one library. Threads may share it."""

    @property
    def facts(self) -> SessionFacts:
        """The library and device that run it."""
        ...

    @property
    def inputs(self) -> Mapping[str, Tensor]:
        """The inputs by name."""
        ...

    @property
    def outputs(self) -> Mapping[str, Tensor]:
        """The outputs by name."""
        ...

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """The outputs of these names, in this order, as new arrays."""
        ...

    def close(self) -> None:
        """Free memory and threads; it cannot run afterwards."""
        ...


def run_graph(graph: Graph, feeds: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
    """Run a graph; the outputs of these names, in this order.

    Whatever the library raises becomes a ModelError on the CPU, and on another device a DeviceError, in one sentence.
    """
    try:
        return graph.run(feeds, outputs)
    except (NumclipError, MemoryError):
        raise
    except Exception as error:  # the libraries' exceptions have no common base class
        facts = graph.facts
        reason = (" ".join(str(error).split()) or type(error).__name__)[:300]
        said = f"{facts.library} {facts.version} opened the graph but failed to run it ({reason})"
        if facts.device == "cpu":
            raise ModelError(f"{said}; free memory, or export the model again") from error
        raise DeviceError(f"device {facts.device}: {said}; use --device cpu") from error


@dataclass(frozen=True, eq=False)
class Outputs:
    """The outputs of a model's graph for N crops."""

    value: Floats  # [N]
    probabilities: Floats  # [N, K]
    embedding: Floats  # [N, D]; D is 0 if the graph has no embedding


class Session(Protocol):
    """A model's graph, open on a device. Threads may share it."""

    @property
    def facts(self) -> SessionFacts:
        """The library and device that run it."""
        ...

    def run(self, crops: Crops) -> Outputs:
        """crops: uint8 [N, S, S, 3] RGB, N >= 1. Raises DeviceError or ModelError if the library fails."""
        ...

    def close(self) -> None:
        """Free memory and threads; it cannot run afterwards."""
        ...


class CropSession:
    """A model's graph in any library; raises ModelError if its tensors do not match the spec."""

    def __init__(self, path: Path, spec: ModelSpec, graph: Graph) -> None:
        try:
            check_tensors(path, spec, graph.inputs, graph.outputs)
        except ModelError:
            graph.close()
            raise
        self.facts, self._graph, self._input, self._outputs = graph.facts, graph, spec.graph.input, spec.graph.outputs

    def run(self, crops: Crops) -> Outputs:
        """crops: uint8 [N, S, S, 3] RGB, N >= 1. Raises DeviceError or ModelError if the library fails."""
        value, probabilities, *embedding = run_graph(self._graph, {self._input: crops}, self._outputs)
        return Outputs(value, probabilities, embedding[0] if embedding else np.zeros((len(crops), 0), np.float32))

    def close(self) -> None:
        """Free memory and threads; it cannot run afterwards."""
        self._graph.close()


def check_crops(crops: Crops, side: int) -> Crops:
    """The crops in C order; raises ValueError unless they are uint8 [N, S, S, 3]."""
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (side, side, 3):
        raise ValueError(f"expected crops as uint8 [N, {side}, {side}, 3] RGB, got {crops.dtype} {list(crops.shape)}")
    return np.ascontiguousarray(crops)


def check_tensors(path: Path, spec: ModelSpec, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
    """Raise ModelError unless the graph has the tensors that its spec describes."""
    side = spec.crop.side
    wanted = [("input", spec.graph.input, Tensor("uint8", (side, side, 3)), inputs)]
    wanted += [("output", name, tensor, outputs) for name, tensor in output_tensors(spec).items()]
    for kind, name, tensor, found in wanted:
        if found.get(name) != tensor:
            got = found.get(name, f"none of this name among {', '.join(found) or 'none'}")
            raise ModelError(f"{path}: expected the {kind} {name} {tensor}, got {got}; export it again")


def output_tensors(spec: ModelSpec) -> dict[str, Tensor]:
    """The outputs that a spec describes, by their names in the graph."""
    sizes: list[tuple[int, ...]] = [(), (spec.task.num_bins,), (spec.graph.embedding_dim,)]
    return {name: Tensor("float32", size) for name, size in zip(spec.graph.outputs, sizes)}
