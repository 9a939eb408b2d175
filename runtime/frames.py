"""What passes along the way of a frame: the Source that gives Frames, and the frozen records Frame, Face, FrameResult."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from .gate import Answer
from .readings import Reading
from .spec import TaskSpec


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture from a source."""

    image: npt.NDArray[np.uint8]  # [H, W, 3] BGR
    index: int  # 0 for the source's first frame
    time_s: float  # position in the media, or seconds since a live source was opened
    captured_s: float  # time.monotonic() when the picture was taken or decoded
    source: str  # as the user gave it, credentials hidden
    file: str | None = None  # the picture's name, for folders


class Source:
    """A stream of frames, to be closed after use."""

    name: str  # as the user gave it, credentials hidden
    files: Sequence[Path] = ()  # what is read, where that is files
    stills: bool = False  # pictures that have nothing to do with each other: no tracks
    live: bool = False  # the newest frame counts; older ones may be dropped
    frames: int | None = None  # how many there will be, if that is known
    fps: float | None = None  # nominal frame rate, if there is one
    dropped: int = 0  # frames dropped so far because newer ones were there

    def __iter__(self) -> Iterator[Frame]:
        raise NotImplementedError

    def close(self) -> None:
        """Let go of file or device."""

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, eq=False)
class Face:
    """One face in a frame, with what is known about it."""

    box_xyxy: tuple[float, float, float, float]  # px
    score: float  # the detector's, 0 to 1
    landmarks: npt.NDArray[np.float32] | None  # [5, 2] px, YuNet's order
    reading: Reading | None  # None when the model abstains
    track_id: int | None = None
    fresh: bool = True  # the model ran on this face in this frame
    reason: str | None = None  # why there is no reading
    gate: Answer | None = None  # where the run has a gate

    def to_json(self, task: TaskSpec, level: float | None = None) -> dict[str, Any]:
        """The face as one JSON object; `low` and `high` are null where the model is not calibrated."""
        reading = self.reading
        low = high = None
        if reading is not None and level is not None and reading.is_calibrated:
            low, high = (round(float(v), 2) for v in reading.interval(level))
        face: dict[str, Any] = {
            "track": self.track_id,
            "box": [round(float(v), 1) for v in self.box_xyxy],
            "score": round(float(self.score), 4),
            task.name: None if reading is None else round(reading.value, 2),
            "low": low,
            "high": high,
            "level": level if low is not None else None,
            "bin": None if reading is None else reading.bin,
            "probabilities": [] if reading is None else [round(float(p), 4) for p in reading.probabilities],
            "fresh": self.fresh,
        }
        if self.gate is not None:
            face["gate"] = self.gate.to_json()
        if self.reason is not None:
            face["reason"] = self.reason
        return face


@dataclass(frozen=True, eq=False)
class FrameResult:
    """Everything seen in one frame, and how old it was when it was ready."""

    frame: Frame
    faces: tuple[Face, ...]
    latency_s: float  # capture to result
    dropped: int  # frames of this source dropped since the start
    task: TaskSpec

    def to_json(self, level: float | None = None) -> dict[str, Any]:
        """The result as one JSON object (one line of JSONL)."""
        line: dict[str, Any] = {"source": self.frame.source}
        if self.frame.file is not None:
            line["file"] = self.frame.file
        line |= {
            "frame": self.frame.index,
            "time_s": round(self.frame.time_s, 3),
            "latency_ms": round(self.latency_s * 1000, 2),
            "dropped": self.dropped,
            "faces": [face.to_json(self.task, level) for face in self.faces],
        }
        return line
