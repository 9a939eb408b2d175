"""What a run or a server is told about faces: the gate, the bound of model time, which faces are read."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import UsageError
from ..contract.gate import DEFAULT_ERROR, open_gate
from ..contract.spec import ModelSpec
from .pipeline import Rules


@dataclass(frozen=True, kw_only=True)
class FaceOptions:
    """The part that `RunOptions` and `ServeOptions` share."""

    gate: float | None = None
    """Answer for each face whether it is at least so old, in the task's unit; None: no gate."""
    gate_error: float = DEFAULT_ERROR
    """Highest share of the people within four years of the gate's age, on either side, who may be answered wrongly."""
    challenge: float | None = None
    """Say yes to those read as so old or older, in the task's unit; None: as `gate_error` or `cost` say."""
    cost: float | None = None
    """Choose the limit for yes at which one wrong yes is as bad as so many people who are asked; None: as `gate_error` says."""
    budget_ms: float | None = None
    """Model time per frame; None: 10 where frames come live, no bound for files; infinite: no bound."""
    max_faces: int | None = None
    """At most so many faces per frame, the largest; None: 32 in video, all in a picture."""
    min_face_px: int = 24
    """The longer side of the smallest box that is read."""

    def __post_init__(self) -> None:
        """UsageError where the bound is none, or a dial of the gate is there without a gate."""
        if self.budget_ms is not None and not self.budget_ms > 0:
            raise UsageError(f"expected --budget-ms above 0, or inf, got {self.budget_ms:g}")
        if self.gate is None and (self.challenge is not None or self.cost is not None):
            raise UsageError("expected --gate AGE beside --challenge and --cost; say which age")

    def rules(self, spec: ModelSpec) -> Rules:
        """The same for a model; raises UsageError or ModelError where its calibration cannot hold the gate."""
        gate = None
        if self.gate is not None:
            gate = open_gate(spec, self.gate, self.gate_error, challenge=self.challenge, cost=self.cost)
        return Rules(self.max_faces, self.min_face_px, self.budget_ms, gate)
