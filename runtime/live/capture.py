"""A thread per source that reads its frames; of a live one the newest waits, of files a few in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from .frames import Event, Frame, Source

AHEAD = 2  # frames of a file that are decoded before they are needed
STALL_S = 2.0  # a live source without a frame for so long is stalled
POLL_S = 0.25  # how often that is looked at


class Capture:
    """One source, read in its own thread; all captures of a run share the condition that something has changed."""

    def __init__(self, source: Source, changed: threading.Condition) -> None:
        self.source, self.ended = source, False
        self.error: BaseException | None = None
        self._frames: deque[Callable[[], Frame | None]] = deque()
        self._events: list[Event] = []
        self._changed, self._stopped = changed, False
        self._opened_s = self._last_s = time.monotonic()
        self._stalled = False
        self.thread = threading.Thread(target=self._read, name=f"capture {source.name}", daemon=True)

    def stop(self) -> None:
        """End soon; called with the condition held."""
        self._stopped = True
        self.source.stop()

    def take(self) -> tuple[list[Event], Callable[[], Frame | None] | None]:
        """What has come; called with the condition held."""
        if self.source.live and not self.ended and time.monotonic() - self._last_s > STALL_S:
            self._stall(f"no frame for {STALL_S:g} s")
        events, self._events = self._events, []
        frame = self._frames.popleft() if self._frames else None
        self._changed.notify_all()
        return events, frame

    @property
    def idle(self) -> bool:
        """Whether there is nothing to take, called with the condition held."""
        return not self._frames and not self._events

    def broken(self, reason: str) -> None:
        """The source lost its connection and will try again."""
        with self._changed:
            self._stall(reason)
            self._changed.notify_all()

    def _stall(self, reason: str) -> None:
        if not self._stalled:
            self._stalled = True
            self._events.append(Event("stalled", self.source.name, time.monotonic() - self._opened_s, reason))

    def _read(self) -> None:
        self.source.on_break = self.broken  # pyright: ignore[reportAttributeAccessIssue]
        try:
            for frame in self.source.arrivals():
                with self._changed:
                    if not self.source.live:
                        self._changed.wait_for(lambda: self._stopped or len(self._frames) < AHEAD)
                    if self._stopped:
                        break
                    self._keep(frame)
        except BaseException as error:  # told by the run, when the frames that are there have been used
            self.error = error
        finally:
            self.source.close()
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def _keep(self, frame: Callable[[], Frame | None]) -> None:
        self._last_s = time.monotonic()
        if self._stalled:
            self._stalled = False
            self._events.append(Event("resumed", self.source.name, self._last_s - self._opened_s))
        if self.source.live:
            self._frames.clear()
        self._frames.append(frame)
        self._changed.notify_all()


class Captures:
    """The sources of a run; iterating gives rounds: what has happened, and at most one frame of each."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._changed = threading.Condition()
        self._stopped, self._live = False, any(source.live for source in sources)
        self.all = [Capture(source, self._changed) for source in sources]

    def start(self) -> None:
        """Begin to read."""
        for capture in self.all:
            capture.thread.start()

    def __iter__(self) -> Iterator[tuple[list[Event], list[Frame]]]:
        while True:
            with self._changed:
                if not self._changed.wait_for(self._something, POLL_S) and not self._live:
                    continue
                taken = [capture.take() for capture in self.all]
                over = self._stopped or all(capture.ended and capture.idle for capture in self.all)
            events = [event for many, _ in taken for event in many]
            frames = [frame for _, call in taken if call is not None and (frame := call()) is not None]
            if events or frames:
                yield events, frames
            if over:
                break
        for capture in self.all:
            if capture.error is not None and not self._stopped:
                raise capture.error

    def _something(self) -> bool:
        """A frame of any live source, or of every file that goes on, so that files keep step."""
        if self._stopped or all(capture.ended for capture in self.all):
            return True
        if self._live:
            return any(not capture.idle for capture in self.all)
        return all(capture.ended or not capture.idle for capture in self.all)

    def stop(self) -> None:
        """End all reading soon."""
        with self._changed:
            self._stopped = True
            for capture in self.all:
                capture.stop()
            self._changed.notify_all()
