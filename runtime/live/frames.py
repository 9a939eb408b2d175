"""What passes along the way of a frame: the Source that gives Frames, and the frozen records Frame, SourceEvent, Face, FrameResult."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from ..contract.gate import Answer
from ..contract.readings import Reading
from ..contract.spec import TaskSpec

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture from a source."""

    image: npt.NDArray[np.uint8]  # [H, W, 3] BGR
    index: int  # 0 for the source's first frame; a frame that was dropped has an index too
    time_s: float  # since the source began, from 0, never falling: position in the media, or since it was opened
    captured_s: float  # time.monotonic() when the picture arrived, still encoded
    source: str  # as the user gave it, credentials hidden
    file: str | None = None  # the picture's name, for folders
    decoding_s: tuple[float, float] | None = None  # time.monotonic() when its decoding began and ended
    segment: int = 0  # rises at a new connection or a jump of the clock: nobody is followed from one into the next


EventKind = Literal["stalled", "resumed", "ended", "failed"]


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a source once it is open."""

    name: str  # as the user gave it, credentials hidden
    size_wh: tuple[int, int] | None = None  # px, of its first frame
    fps: float | None = None  # nominal frame rate
    frames: int | None = None  # how many there will be
    live: bool = False  # the newest frame counts; older ones may be dropped
    stills: bool = False  # pictures that have nothing to do with each other: no tracks
    files: tuple[Path, ...] = ()  # what is read, where that is files
    notes: tuple[str, ...] = ()  # what a person should know: what a camera gives, what is left out


@dataclass(frozen=True)
class SourceEvent:
    """Something that befell a source; it comes between its frames, in order.

    stalled: no frames for now, it will be tried again. resumed: frames come again. ended: no more will come, as was to be
    expected. failed: no more will come, and some are missing.
    """

    kind: EventKind
    source: str  # as the user gave it, credentials hidden
    time_s: float  # since the source was opened
    reason: str = ""  # one sentence for people

    def to_json(self) -> dict[str, Any]:
        """The event as one JSON object (a line of its own in JSONL)."""
        return {
            "event": self.kind,
            "source": self.source,
            "time_s": round(self.time_s, 3),
            "reason": self.reason,
        }


Arrival = Callable[[], "Frame | None"]  # decodes a frame that has come; None if it is broken. Not called: not decoded


class Source(Protocol):
    """A stream of frames. The thread that opens it also reads and closes it; only `stop` may come from another.

    with source: for frame in source: ... does all of it in one thread; `capture.py` gives each source a thread of its own.
    """

    name: str  # as the user gave it, credentials hidden
    reconnects: int = 0  # how often a live source was opened again
    undecodable: int = 0  # frames or packets that could not be decoded so far

    def open(self) -> SourceInfo:
        """Open it, once; a second call only says again what is known. Raises SourceError saying what was expected."""
        ...

    def arrivals(self) -> Iterator[Arrival | SourceEvent]:
        """Each frame as it comes, as a call that gives it, and what befalls a live source between them. Raises SourceError
        at the end where something is missing."""
        ...

    def stop(self) -> None:
        """Ask the iteration, in whatever thread it runs, to end soon."""

    def close(self) -> None:
        """Let go of file or device."""

    def __iter__(self) -> Iterator[Frame]:
        """Every frame that can be decoded."""
        for arrival in self.arrivals():
            if not isinstance(arrival, SourceEvent) and (frame := arrival()) is not None:
                yield frame

    def __enter__(self) -> Self:
        self.open()
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
