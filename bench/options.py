"""The options of a benchmark, and the equivalent command line."""

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
    """Models by name or file, or other implementations such as `eager:nano` (docs/bench.md); ratios are relative to the first."""
    scenario: Scenario = "single-stream"
    """An MLPerf scenario, `sustained` for minutes without a pause, or `pipeline` for the stages of a frame."""
    devices: tuple[str, ...] = ("auto",)
    """The devices; each model runs on each of them."""
    batches: tuple[int, ...] | None = None
    """Faces per call; None: 1 (multi-stream 8, offline 32)."""
    threads: tuple[int, ...] = (1,)
    """CPU threads per call."""
    skip_absent: bool = False
    """Skip and list what cannot run on this machine; otherwise it is an error."""
    seconds: float | None = None
    """Minimum time per contender, in s; None: 5 (sustained 600)."""
    restarts: int = RESTARTS
    """How often each model is closed and opened again."""
    pictures: str | None = None
    """Pictures or a clip to take the timed faces from; None: two portraits."""
    clip: str | None = None
    """Video with a face, for the scenario pipeline."""
    detector: str = FINDER
    """The face detector, for the pipeline and for `pictures`."""
    frames: int = FRAMES
    """Number of frames of the clip to time."""

    def __post_init__(self) -> None:
        if not self.models:
            raise UsageError(
                f"expected at least one MODEL to time, got none; shipped models are {', '.join(shipped_models())}"
            )
        if self.duration_s <= 0 or self.frames < 1 or self.restarts < 1:
            raise UsageError("expected --seconds, --frames and --restarts above 0")
        if self.scenario == "pipeline" and not self.clip:
            raise UsageError(
                "--scenario pipeline needs --clip FILE, a video with a face; run `numclip demo` to make one"
            )
        if self.scenario == "pipeline":
            given = {
                "--batch": self.batches is not None,
                "--seconds": self.seconds is not None,
                "--restarts": self.restarts != RESTARTS,
                "--pictures": self.pictures is not None,
                "--skip-absent": self.skip_absent,
            }
            if unused := [flag for flag, there in given.items() if there]:
                raise UsageError(f"--scenario pipeline times --frames of --clip; leave out {', '.join(unused)}")

    @property
    def duration_s(self) -> float:
        """Minimum time per contender, in s."""
        return (
            (SUSTAINED_SECONDS if self.scenario == "sustained" else SECONDS) if self.seconds is None else self.seconds
        )

    @property
    def faces_per_call(self) -> tuple[int, ...]:
        """The batch sizes, or the scenario's default."""
        return self.batches or DEFAULT_BATCH.get(self.scenario, (1,))


FLAGS = {"devices": "--device", "batches": "--batch"}  # flags whose name differs from the field's


def command(options: BenchOptions) -> str:
    """The `numclip bench` command for these options, without those at their defaults."""
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
