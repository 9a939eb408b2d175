"""Where the way of a frame begins: the Source, and the frozen records Frame, SourceInfo and SourceEvent. Its end is results.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

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

    def to_json(self) -> dict[str, object]:
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
    undecodable: int = 0  # frames so far that never came, could not be decoded, or were patched up by the decoder

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
