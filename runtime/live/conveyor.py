"""The stages of `Pipeline.read`, each in its own thread, with bounded queues between them.

    capture (one thread per source) -> see: detect, track, choose, crop -> answer: model, ages -> consumer

Files: every frame passes, and the slowest stage sets the rate. Looks are chosen only after the results of the earlier frames
are known, so that the results do not depend on the speed of the stages, and equal those of `Pipeline.read`.

Live sources: a waiting frame is replaced by a newer one. While the model is busy, the next frame is taken as late as possible,
so that its faces are found just when the model is free: no result is older than its own processing. Replaced frames are
counted exactly: each frame has an index, and is either a result or dropped. Results keep the order of frames, per source.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .capture import Captures
from .frames import Source, SourceEvent
from .handover import Closed, Handover
from .results import FrameResult
from .sight import Feedback, Sight

if TYPE_CHECKING:
    from .pipeline import Pipeline

WAITING = 2  # queue length between two stages, for files
LEARNING = 0.3  # weight of the newest frame in the average time of the first stage
GRACE_S = 0.02  # tolerance for a late model
JOIN_S = 6.0  # a thread reading a dead network stream ends at its time-out


@dataclass(frozen=True, eq=False)
class _Seen:
    """One round between the first and the second stage."""

    events: list[SourceEvent]
    sights: list[Sight]
    expected_s: float  # expected time of the model


@dataclass(frozen=True, eq=False)
class _Answered:
    """One round between the second stage and the consumer."""

    events: list[SourceEvent]
    results: list[FrameResult]


class Conveyor:
    """Iterate over it for results and events; leaving the `with` block ends all its threads."""

    def __init__(self, sources: Captures | Sequence[Source], pipeline: Pipeline) -> None:
        """Opens the sources. Raises SourceError if one cannot be opened, and ValueError for live sources together with files:
        of the first frames are dropped, of the second never.
        """
        self._captures = sources if isinstance(sources, Captures) else Captures(sources)
        infos = self._captures.open()
        if len({info.live for info in infos}) != 1:
            self._captures.stop()
            raise ValueError("expected only live sources or only files, got both")
        live = self._live = infos[0].live
        self._pipeline, self._handed = pipeline, dict[str, int]()
        self._seen: Handover[_Seen] = Handover(1 if live else WAITING, self._newer_seen if live else None)
        self._answered: Handover[_Answered] = Handover(1 if live else WAITING, _newer_answered if live else None)
        self._feedback: queue.SimpleQueue[Feedback | None] = queue.SimpleQueue()  # None: no more
        self._unheard = 0  # rounds of a file without feedback so far; used by the first stage's thread only
        self._free = threading.Condition()  # signals that the model is free, or will be soon
        self._free_s, self._see_s = 0.0, 0.0  # expected time of that; average time of the first stage
        self._put_s: float | None = None  # when the waiting sight was queued
        self._busy_since_s: dict[str, float] = {}  # by stage
        self._threads = [
            threading.Thread(target=self._guarded, args=(stage, out), name=name, daemon=True)
            for name, stage, out in (("see", self._see, self._seen), ("answer", self._answer, self._answered))
        ]

    def __enter__(self) -> Conveyor:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """Stop all stages soon; results that were not taken are lost. May be called twice, and from any thread."""
        self._captures.stop()
        self._seen.close(drop=True)
        self._answered.close(drop=True)
        self._feedback.put(None)
        self._expect(0.0)

    def stuck(self, seconds: float) -> bool:
        """Whether one round of a stage has run for longer than this. Call it for live sources: a stage of a file waits for others."""
        before_s = time.monotonic() - seconds
        return any(since_s < before_s for since_s in list(self._busy_since_s.values()))

    def __exit__(self, *_: object) -> None:
        self.stop()
        deadline_s = time.monotonic() + JOIN_S
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline_s - time.monotonic()))
        self._captures.join(max(0.0, deadline_s - time.monotonic()))

    def __iter__(self) -> Iterator[FrameResult | SourceEvent]:
        while True:
            try:
                answered = self._answered.take()
            except Closed:
                return
            if answered is not None:
                before, after = _around_results(answered.events)
                yield from before
                for result in answered.results:
                    yield self._stamped(result)
                yield from after

    def _stamped(self, result: FrameResult) -> FrameResult:
        """The result with its latency, and the number of dropped frames of its source, at the moment it is handed over."""
        name = result.frame.source
        self._handed[name] = self._handed.get(name, 0) + 1
        latency_s = time.monotonic() - result.frame.captured_s
        times_s = {**result.times_s, "waiting": result.times_s.get("waiting", 0.0) + latency_s - result.latency_s}
        dropped = result.frame.index + 1 - self._handed[name]
        return replace(result, latency_s=latency_s, dropped=dropped, times_s=times_s)

    def _guarded(self, stage: Callable[[], None], out: Handover[_Seen] | Handover[_Answered]) -> None:
        """Run a stage to its end, and pass on the error that ended it."""
        try:
            stage()
        except Closed:
            out.close()
        except BaseException as error:  # raised again where the results are taken
            out.close(error)
        else:
            out.close()
        finally:
            self._feedback.put(None)  # if the second stage ended, nobody needs to wait for it

    @contextmanager
    def _busy(self, stage: str) -> Generator[None, None, None]:
        """Record that a stage is in a round."""
        self._busy_since_s[stage] = time.monotonic()
        try:
            yield
        finally:
            del self._busy_since_s[stage]

    def _hear(self) -> Iterator[Feedback]:
        """Feedback of the model calls: what is there, or for files that of all earlier frames. Raises Closed at the end."""
        while self._unheard or not self._feedback.empty():
            feedback = self._feedback.get()
            if feedback is None:
                raise Closed
            self._unheard -= not self._live
            yield feedback

    def _see(self) -> None:
        rounds = iter(self._captures)
        while True:
            self._wait_until_needed()
            for events, frames in rounds:
                started_s = time.monotonic()
                with self._busy("see"):
                    sights = self._pipeline.seer.see(frames, self._hear)
                seen = _Seen(events, sights, self._pipeline.seer.expected_s(sights))
                self._unheard += not self._live
                if frames:
                    self._see_s += LEARNING * (time.monotonic() - started_s - self._see_s)
                with self._free:
                    self._put_s = time.monotonic()
                if not self._seen.put(seen):
                    return
                break
            else:
                return

    def _answer(self) -> None:
        while True:
            seen = self._seen.take()
            if seen is None:
                continue
            self._put_s = None
            self._expect(time.monotonic() + seen.expected_s)
            with self._busy("answer"):
                results, feedback = self._pipeline.answerer.answer(seen.sights)
            self._feedback.put(feedback)
            self._expect(0.0)
            if not self._answered.put(_Answered(seen.events, results)):
                return

    def _wait_until_needed(self) -> None:
        """Wait until the next frame of a live source can be answered without waiting."""
        with self._free:
            while self._live:
                in_time_s = self._free_s - self._see_s
                if self._put_s is not None and self._put_s > in_time_s:  # as fresh as a new one would be
                    in_time_s = max(self._free_s, self._put_s) + GRACE_S
                pause_s = in_time_s - time.monotonic()
                if pause_s <= 0:
                    return
                self._free.wait(pause_s)

    def _expect(self, free_s: float) -> None:
        """Set the time at which the model will be free."""
        with self._free:
            self._free_s = free_s
            self._free.notify_all()

    def _newer_seen(self, old: _Seen, new: _Seen) -> _Seen:
        """The newest sight of each source; looks chosen for the others are returned to the budget."""
        here = {sight.frame.source for sight in new.sights}
        self._pipeline.seer.unask([sight for sight in old.sights if sight.frame.source in here])
        kept = [sight for sight in old.sights if sight.frame.source not in here]
        sights = kept + new.sights
        return _Seen(old.events + new.events, sights, self._pipeline.seer.expected_s(sights))


def _around_results(events: Sequence[SourceEvent]) -> tuple[list[SourceEvent], list[SourceEvent]]:
    """The events of a round that come before its results, and those that come after them.

    The frame of a source arrived after its last `resumed`, and before any later event: a source sends `resumed` before its next
    frame.
    """
    resumed = {event.source: at for at, event in enumerate(events) if event.kind == "resumed"}
    before: list[SourceEvent] = []
    after: list[SourceEvent] = []
    for at, event in enumerate(events):
        (before if at <= resumed.get(event.source, -1) else after).append(event)
    return before, after


def _newer_answered(old: _Answered, new: _Answered) -> _Answered:
    """The newest result of each source."""
    here = {result.frame.source for result in new.results}
    kept = [result for result in old.results if result.frame.source not in here]
    return _Answered(old.events + new.events, kept + new.results)
