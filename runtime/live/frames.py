"""What passes along the way of a frame: the Source that gives Frames, and the frozen records Frame, Event, Face, FrameResult."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..contract.gate import Answer
from ..contract.readings import Reading
from ..contract.spec import TaskSpec


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture from a source."""

    image: npt.NDArray[np.uint8]  # [H, W, 3] BGR
    index: int  # 0 for the source's first frame; a frame that was dropped has an index too
    time_s: float  # position in the media, or seconds since a live source was opened
    captured_s: float  # time.monotonic() when the picture arrived, still encoded
    source: str  # as the user gave it, credentials hidden
    file: str | None = None  # the picture's name, for folders
    decoding_s: tuple[float, float] | None = None  # time.monotonic() when its decoding began and ended
    segment: int = 0  # connections of a live source so far: nobody is followed from one into the next


@dataclass(frozen=True)
class Event:
    """Something that befell a live source."""

    kind: str  # stalled or resumed
    source: str  # as the user gave it, credentials hidden
    time_s: float  # seconds since the source was opened
    reason: str = ""  # for people; not part of the JSON line

    def to_json(self) -> dict[str, Any]:
        """The event as one JSON object (a line of its own in JSONL)."""
        return {"event": self.kind, "source": self.source, "time_s": round(self.time_s, 3)}


class Source:
    """A stream of frames, to be closed after use."""

    name: str  # as the user gave it, credentials hidden
    files: Sequence[Path] = ()  # what is read, where that is files
    stills: bool = False  # pictures that have nothing to do with each other: no tracks
    live: bool = False  # the newest frame counts; older ones may be dropped
    frames: int | None = None  # how many there will be, if that is known
    fps: float | None = None  # nominal frame rate, if there is one
    note: str = ""  # what a camera gives, where something was asked of it
    reconnects: int = 0  # how often a live source was opened again
    undecodable: int = 0  # frames or packets that could not be decoded so far

    def on_break(self, reason: str) -> None:
        """Called from the iteration when the connection is lost and will be tried again; to be set by whoever cares."""

    def __iter__(self) -> Iterator[Frame]:
        raise NotImplementedError

    def arrivals(self) -> Iterator[Callable[[], Frame | None]]:
        """The same frames, each as a call that gives it, or None if it cannot be decoded; a frame that nobody calls for
        need not be decoded. Calls may come from another thread, one at a time."""
        return ((lambda frame=frame: frame) for frame in self)

    def stop(self) -> None:
        """Ask the iteration, in whatever thread it runs, to end soon."""

    def close(self) -> None:
        """Let go of file or device."""

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Shown(Protocol):
    """What is shown on a face: one look's `Reading`, a track's running estimate, or either of them out of a recording."""

    @property
    def value(self) -> float:
        """In the task's unit."""
        ...

    @property
    def bin(self) -> str:
        """The word of the bin that holds the value."""
        ...

    @property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """[K] over the text bins."""
        ...

    @property
    def is_calibrated(self) -> bool:
        """Whether `interval` can answer."""
        ...

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Low and high in the task's unit."""
        ...


@dataclass(frozen=True, eq=False)
class Face:
    """One face in a frame, with what is known about it."""

    box_xyxy: tuple[float, float, float, float]  # px
    score: float  # the detector's, 0 to 1, when it saw this face last
    landmarks: npt.NDArray[np.float32] | None  # [5, 2] px, YuNet's order
    reading: Shown | None  # what is shown: the track's running estimate, on a picture its only look; None: abstained
    look: Reading | None = None  # what the model said in this frame alone; None when it did not run or was not believed
    track_id: int | None = None
    fresh: bool = True  # the model ran on this face in this frame
    reason: str | None = None  # why there is no reading: small, profile, blurred or range
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
            "probabilities": [] if reading is None else [round(p, 4) for p in reading.probabilities.tolist()],
            "fresh": self.fresh,
        }
        if self.gate is not None:
            face["gate"] = self.gate.to_json()
        if self.reason is not None:
            face["reason"] = self.reason
        return face


@dataclass(frozen=True, eq=False)
class FrameResult:
    """Everything seen in one frame, and how old it was when it was handed over."""

    frame: Frame
    faces: tuple[Face, ...]
    latency_s: float  # capture to result
    dropped: int  # frames of this source that were skipped so far because newer ones were there
    task: TaskSpec
    times_s: Mapping[str, float] = field(default_factory=lambda: {})  # where the latency went, stage by stage

    def to_json(self, level: float | None = None) -> dict[str, Any]:
        """The result as one JSON object (one line of JSONL)."""
        return {**self._head(), "faces": [face.to_json(self.task, level) for face in self.faces]}

    def to_counts(self) -> dict[str, Any]:
        """The result without boxes, tracks or ages of anybody: how many faces per word, and how many were not read."""
        counts = dict.fromkeys(self.task.words, 0)
        for face in self.faces:
            if face.reading is not None:
                counts[face.reading.bin] += 1
        return {**self._head(), "counts": counts, "unread": sum(face.reading is None for face in self.faces)}

    def _head(self) -> dict[str, Any]:
        head: dict[str, Any] = {"source": self.frame.source}
        if self.frame.file is not None:
            head["file"] = self.frame.file
        return head | {
            "frame": self.frame.index,
            "time_s": round(self.frame.time_s, 3),
            "latency_ms": round(self.latency_s * 1000, 2),
            "dropped": self.dropped,
        }
