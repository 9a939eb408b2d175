"""An ordinal task: the number that a model estimates, and the words that cover its scale."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from ...errors import ModelError
from .fields import Fields


@dataclass(frozen=True)
class TaskSpec:
    """An ordinal task: a number on a scale, and the K words (text bins) that cover the scale."""

    name: str  # "age"
    unit: str  # "years"
    low: float  # smallest value that the model may return, in the unit
    high: float  # largest value, in the unit
    bin_edges: tuple[float, ...]  # K + 1 rising edges; bin k is [edge k, edge k+1)
    words: tuple[str, ...]  # K words, one per bin

    @property
    def num_bins(self) -> int:
        """K."""
        return len(self.words)

    @property
    def bin_centers(self) -> tuple[float, ...]:
        """The K midpoints between neighbouring edges, in the unit."""
        return tuple((a + b) / 2 for a, b in pairwise(self.bin_edges))

    def bin_of(self, value: float) -> int:
        """The index of the bin that contains `value`; a value outside the scale belongs to the first or last bin."""
        return max(0, min(self.num_bins - 1, sum(value >= edge for edge in self.bin_edges[1:-1])))

    @staticmethod
    def from_json(fields: Fields) -> TaskSpec:
        """Read and check a task; raises ModelError naming the field."""
        task = TaskSpec(
            name=fields.text("name"),
            unit=fields.text("unit"),
            low=fields.number("low"),
            high=fields.number("high"),
            bin_edges=fields.numbers("bin_edges"),
            words=fields.texts("words"),
        )
        fields.done()
        try:
            check_task(task)
        except ValueError as error:
            raise ModelError(f"spec field task.{error}; export the model again") from None
        return task


def check_task(task: TaskSpec) -> None:
    """Raise ValueError, with the field, unless there are at least two bins, each with a word, and rising edges."""
    if task.num_bins < 2:
        raise ValueError(f"words: expected at least 2 words, got {task.num_bins}")
    if len(task.bin_edges) != task.num_bins + 1:
        expected, got = task.num_bins + 1, len(task.bin_edges)
        raise ValueError(f"bin_edges: expected {expected} edges for {task.num_bins} words, got {got}")
    if any(b <= a for a, b in pairwise(task.bin_edges)):
        raise ValueError(f"bin_edges: expected rising edges, got {list(task.bin_edges)}")
    if not task.low < task.high:
        raise ValueError(f"high: expected a number above low = {task.low:g}, got {task.high:g}")
