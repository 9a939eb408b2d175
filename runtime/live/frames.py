"""Sources and their frozen records Frame, SourceInfo and SourceEvent; results.py has the records at the other end."""

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
    time_s: float  # seconds from 0, never decreasing: position in the file, or time since the source was opened
    captured_s: float  # time.monotonic() when the picture arrived, still encoded
    source: str  # as the user gave it, credentials hidden
    file: str | None = None  # the picture's name in the common folder; not if the source is one picture
    decoding_s: tuple[float, float] | None = None  # time.monotonic() when its decoding began and ended
    segment: int = 0  # increases at a new connection or a jump of the clock; tracks end there


EventKind = Literal["stalled", "resumed", "ended", "failed"]


@dataclass(frozen=True)
class SourceInfo:
    """The facts about an open source."""

    name: str  # as the user gave it, credentials hidden
    size_wh: tuple[int, int] | None = None  # px, of its first frame
    fps: float | None = None  # nominal frame rate
    frames: int | None = None  # total number of frames
    live: bool = False  # the newest frame counts; older ones may be dropped
    stills: bool = False  # unrelated pictures, without tracks
    files: tuple[Path, ...] = ()  # the files that are read
    notes: tuple[str, ...] = ()  # notes for people: what a camera granted, which files are left out


@dataclass(frozen=True)
class SourceEvent:
    """An event of a source, in order between its frames.

    stalled: no frames for now; the source tries again. resumed: frames arrive again. ended: the source ended as expected.
    failed: the source ended, and frames are missing.
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


Arrival = Callable[[], "Frame | None"]  # decodes an arrived frame; None if it is broken. Not called: not decoded


class Source(Protocol):
    """A stream of frames. The thread that opens it must also read and close it; only `stop` may be called from another thread.

    `with source: for frame in source: ...` does all of it in one thread; `capture.py` gives each source its own thread.
    """

    name: str  # as the user gave it, credentials hidden
    reconnects: int = 0  # how often a live source was opened again
    undecodable: int = 0  # frames so far that were missing, undecodable, or repaired by the decoder

    def open(self) -> SourceInfo:
        """Open the source. A second call only returns the same facts. Raises SourceError."""
        ...

    def arrivals(self) -> Iterator[Arrival | SourceEvent]:
        """Each frame as it arrives, as a function that returns it, and the events of a live source between them. Raises
        SourceError at the end if frames are missing.
        """
        ...

    def stop(self) -> None:
        """Ask the iteration, in any thread, to end soon."""

    def close(self) -> None:
        """Release the file or device."""

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
