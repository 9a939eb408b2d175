"""What a benchmark is asked for, and the command line that asks the same."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from typing import Literal

from ..errors import UsageError
from ..runtime.contract.model_file import FINDER, shipped_models

Scenario = Literal["single-stream", "multi-stream", "offline", "sustained", "pipeline"]
SCENARIOS: tuple[Scenario, ...] = ("single-stream", "multi-stream", "offline", "sustained", "pipeline")
DEFAULT_BATCH: dict[Scenario, tuple[int, ...]] = {"multi-stream": (8,), "offline": (32,)}
SECONDS, SUSTAINED_SECONDS, RESTARTS, FRAMES = 5.0, 600.0, 6, 150


@dataclass(frozen=True)
class BenchOptions:
    """What is timed, where, and for how long."""

    models: tuple[str, ...]
    """Models by name or file, and rivals as in `eager:nano` (docs/bench.md); the first is the yardstick."""
    scenario: Scenario = "single-stream"
    """MLPerf's scenarios, `sustained` for minutes without a pause, or `pipeline` for the stages of a frame."""
    devices: tuple[str, ...] = ("auto",)
    """Each model runs on each of these."""
    batches: tuple[int, ...] | None = None
    """Faces per call; None: 1, multi-stream 8, offline 32."""
    threads: tuple[int, ...] = (1,)
    """CPU threads per call."""
    skip_absent: bool = False
    """List what cannot run here and time the rest; otherwise it is an error."""
    seconds: float | None = None
    """At least so long per contender; None: 5, sustained 600."""
    restarts: int = RESTARTS
    """How often everything is opened anew."""
    pictures: str | None = None
    """Pictures or a clip whose faces are timed; None: two portraits."""
    clip: str | None = None
    """A video with a face, for the scenario pipeline."""
    detector: str = FINDER
    """The face detector of the pipeline, which also finds the faces of `pictures`."""
    frames: int = FRAMES
    """Frames of the clip to time."""

    def __post_init__(self) -> None:
        if not self.models:
            raise UsageError(f"expected a MODEL to time, got none; there is {', '.join(shipped_models())}")
        if self.duration_s <= 0 or self.frames < 1 or self.restarts < 1:
            raise UsageError("expected --seconds, --frames and --restarts above 0")
        if self.scenario == "pipeline" and not self.clip:
            raise UsageError("--scenario pipeline needs --clip FILE, a video with a face; `numclip demo` makes one")

    @property
    def duration_s(self) -> float:
        """At least so long per contender."""
        return (
            (SUSTAINED_SECONDS if self.scenario == "sustained" else SECONDS) if self.seconds is None else self.seconds
        )

    @property
    def faces_per_call(self) -> tuple[int, ...]:
        """The batches, with the scenario's own as default."""
        return self.batches or DEFAULT_BATCH.get(self.scenario, (1,))


FLAGS = {"devices": "--device", "batches": "--batch"}  # those that are not named like their field


def command(options: BenchOptions) -> str:
    """The `numclip bench` command that asks for these options; what stands at its default is left out."""
    words = list(options.models)
    for field in fields(options)[1:]:
        value, flag = getattr(options, field.name), FLAGS.get(field.name, f"--{field.name.replace('_', '-')}")
        if value == field.default:
            continue
        words.append(flag)
        if isinstance(value, tuple):
            words.append(",".join(str(each) for each in value))  # pyright: ignore[reportUnknownVariableType]
        elif value is not True:
            words.append(f"{value:g}" if isinstance(value, float) else str(value))
    return shlex.join(["numclip", "bench", *words])
