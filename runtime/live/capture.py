"""One thread per source that opens, reads and closes it; of a live source it keeps the newest frame, of a file a few in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence

from ...errors import NumclipError, SourceError
from .addresses import hide_in
from .frames import Arrival, EventKind, Frame, Source, SourceEvent, SourceInfo

AHEAD = 2  # frames of a file that are decoded before they are needed
STALL_S = 2.0  # a live source without a frame for this long is stalled
POLL_S = 0.25  # how often that is checked


class Capture:
    """One source, read in its own thread; all captures of a run share one condition variable."""

    def __init__(self, source: Source, changed: threading.Condition) -> None:
        self.source, self.ended = source, False
        self.info: SourceInfo | None = None  # once it is open
        self.error: Exception | None = None  # the error that ended it
        self._frames: deque[Arrival] = deque()
        self._events: list[SourceEvent] = []
        self._changed, self._wanted, self._stopped = changed, False, False
        self._opened_s = self._last_s = time.monotonic()
        self._stalled = False
        self.thread = threading.Thread(target=self._run, name=f"capture {source.name}", daemon=True)

    def want(self) -> None:
        """Start reading; call with the condition held."""
        if not self._wanted:
            self._wanted, self._opened_s = True, time.monotonic()
            self._last_s = self._opened_s

    def stop(self) -> None:
        """Stop soon; call with the condition held."""
        self._stopped = True
        self.source.stop()

    def take(self) -> tuple[list[SourceEvent], Arrival | None]:
        """The frame and events that have arrived; call with the condition held."""
        if self.live and not self.ended and time.monotonic() - self._last_s > STALL_S:
            self._stall(f"no frame for {STALL_S:g} s")
        frame = self._frames.popleft() if self._frames else None
        events: list[SourceEvent] = []
        if frame is None or self.live:  # an event of a file follows the frames before it
            events, self._events = self._events, []
        self._changed.notify_all()
        return events, frame

    @property
    def live(self) -> bool:
        """Whether the source is live, so that only its newest frame counts."""
        return self.info is not None and self.info.live

    @property
    def idle(self) -> bool:
        """Whether nothing has arrived; call with the condition held."""
        return not self._frames and not self._events

    def fail(self, error: Exception) -> None:
        """End the source with an error: frames are missing, because reading or decoding failed."""
        with self._changed:
            if self.error is None and not self._stopped:
                told = isinstance(error, NumclipError)
                text = hide_in(f"{type(error).__name__}: {error}")
                self.error = (
                    error if told else SourceError(f"{self.source.name}: reading failed ({text}); check the source")
                )
                self.error.__cause__ = None if told else error
                self._tell("failed", str(self.error).removeprefix(f"{self.source.name}: "))
            self.stop()
            self._changed.notify_all()

    def _tell(self, kind: EventKind, reason: str) -> None:
        self._events.append(SourceEvent(kind, self.source.name, time.monotonic() - self._opened_s, reason))

    def _stall(self, reason: str) -> None:
        if not self._stalled:
            self._stalled = True
            self._tell("stalled", reason)

    def _run(self) -> None:
        try:
            info = self.source.open()
            with self._changed:
                self.info = info
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._wanted or self._stopped)
            self._read()
        except Exception as error:  # the run reports it after the remaining frames
            self.fail(error)
        finally:
            try:
                self.source.close()
            finally:
                with self._changed:
                    self.ended = True
                    self._changed.notify_all()

    def _read(self) -> None:
        if self._stopped:
            return
        for arrival in self.source.arrivals():
            with self._changed:
                if not self.live:
                    self._changed.wait_for(lambda: self._stopped or len(self._frames) < AHEAD)
                if self._stopped:
                    return
                self._keep(arrival)
        with self._changed:
            if self.live and not self._stopped:
                self._tell("ended", "no more frames")

    def _keep(self, arrival: Arrival | SourceEvent) -> None:
        if isinstance(arrival, SourceEvent):
            self._stall(arrival.reason)
        else:
            self._last_s = time.monotonic()
            if self._stalled:
                self._stalled = False
                self._tell("resumed", "frames come again")
            if self.live:
                self._frames.clear()
            self._frames.append(arrival)
        self._changed.notify_all()


class Captures:
    """The sources of a run; iterating yields rounds: the events, and at most one frame of each source."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._changed = threading.Condition()
        self._stopped, self._live, self._started = False, False, False
        self.all = [Capture(source, self._changed) for source in sources]

    def open(self) -> list[SourceInfo]:
        """Open every source, each in its thread, without reading. Raises the SourceError of the first that fails."""
        if not self._started:
            self._started = True
            for capture in self.all:
                capture.thread.start()
        with self._changed:
            self._changed.wait_for(lambda: all(c.info is not None or c.ended for c in self.all))
            infos = [capture.info for capture in self.all if capture.info is not None]
            self._live = any(info.live for info in infos)
        if len(infos) < len(self.all):
            self.stop()
            raise next(c.error or SourceError(f"{c.source.name}: was stopped") for c in self.all if c.info is None)
        return infos

    def __iter__(self) -> Iterator[tuple[list[SourceEvent], list[Frame]]]:
        self.open()
        with self._changed:
            for capture in self.all:
                capture.want()
            self._changed.notify_all()
        while True:
            with self._changed:
                if not self._changed.wait_for(self._something, POLL_S) and not self._live:
                    continue
                taken = [capture.take() for capture in self.all]
                over = all(capture.ended and capture.idle for capture in self.all)
            events = [event for many, _ in taken for event in many]
            frames: list[Frame] = []
            for capture, (_, call) in zip(self.all, taken, strict=True):
                try:
                    frame = None if call is None else call()
                except Exception as error:
                    capture.fail(error)
                else:
                    frames += [] if frame is None else [frame]
            if events or frames:
                yield events, frames
            if self._stopped or (over and all(capture.idle for capture in self.all)):
                break
        failed = [capture.error for capture in self.all if capture.error is not None]
        if failed and not self._stopped:
            raise failed[0] if len(failed) == 1 else SourceError("; ".join(map(str, failed)))

    def _something(self) -> bool:
        """A frame of any live source, or one of every file that has not ended, so that files stay in step."""
        if self._stopped or all(capture.ended for capture in self.all):
            return True
        if self._live:
            return any(not capture.idle for capture in self.all)
        return all(capture.ended or not capture.idle for capture in self.all)

    def stop(self) -> None:
        """Stop all reading soon."""
        with self._changed:
            self._stopped = True
            for capture in self.all:
                capture.stop()
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        """Wait until the threads have ended and every source is closed."""
        deadline_s = time.monotonic() + seconds
        for capture in self.all:
            if capture.thread.ident is not None:
                capture.thread.join(max(0.0, deadline_s - time.monotonic()))
