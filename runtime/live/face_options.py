"""Options about faces that runs and servers share: the gate, the time budget, and which faces are read."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import UsageError
from ..contract.gate import DEFAULT_ERROR, open_gate
from ..contract.spec import ModelSpec
from .pipeline import Rules


@dataclass(frozen=True, kw_only=True)
class FaceOptions:
    """The options that `RunOptions` and `ServeOptions` share."""

    gate: float | None = None
    """Decide for each face whether the person is at least this old, in the task's unit; None: no gate."""
    gate_error: float = DEFAULT_ERROR
    """Highest accepted error rate: of the people up to four years below the gate's age, at most this share gets yes; of the people up
    to four years above, at most this share gets no."""
    challenge: float | None = None
    """Answer yes only to people whose estimated value is at least this, in the task's unit; None: chosen from `gate_error` or `cost`."""
    cost: float | None = None
    """Choose the limit for yes by cost: one wrong yes costs as much as this many people who are asked; None: by `gate_error`."""
    budget_ms: float | None = None
    """Model time per frame, in ms; None: 10 for live sources, no limit for files; infinite: no limit."""
    max_faces: int | None = None
    """Read at most this many faces per frame, the largest first; None: 32 in video, no limit in pictures."""
    min_face_px: int = 24
    """Longer side of the smallest face that is read, in px."""

    def __post_init__(self) -> None:
        """Raise UsageError for a budget of 0 or less, or a setting of the gate without a gate."""
        if self.budget_ms is not None and not self.budget_ms > 0:
            raise UsageError(f"expected --budget-ms above 0, or inf, got {self.budget_ms:g}")
        if self.gate is None and (self.challenge is not None or self.cost is not None):
            raise UsageError("--challenge and --cost each need --gate AGE; add it")

    def rules(self, spec: ModelSpec) -> Rules:
        """These options for a model; raises UsageError or ModelError if its calibration cannot support the gate."""
        gate = None
        if self.gate is not None:
            gate = open_gate(spec, self.gate, self.gate_error, challenge=self.challenge, cost=self.cost)
        return Rules(self.max_faces, self.min_face_px, self.budget_ms, gate)
