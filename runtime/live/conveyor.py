"""The same stages as `Pipeline.read`, each in a thread of its own, with bounded hand-over between them.

    capture (one thread per source) -> see: detect, track, choose, crop -> answer: model, ages -> whoever iterates

Of files every frame passes, and the slowest stage sets the rate; looks are chosen when the answers to the frames before are known,
so that the results do not depend on how quick the stages are, and are those of `Pipeline.read`. Of live sources a frame that waits is replaced by a
newer one, and while the model is busy the next frame is taken just so late that its faces are found when the model is
free: no result is older than the stages it went through. What was replaced is counted, exactly: each frame has an
index, and each is either a result or dropped. Results come in the order of frames, per source.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .capture import Captures
from .frames import Source, SourceEvent
from .handover import Closed, Handover
from .results import FrameResult
from .sight import Feedback, Sight

if TYPE_CHECKING:
    from .pipeline import Pipeline

WAITING = 2  # items between two stages, of files
LEARNING = 0.3  # share of the newest frame in how long seeing takes
GRACE_S = 0.02  # that the model may be late
JOIN_S = 6.0  # a thread that reads a dead network stream needs until its time-out


@dataclass(frozen=True, eq=False)
class _Seen:
    """Between see and answer: one round."""

    events: list[SourceEvent]
    sights: list[Sight]
    expected_s: float  # that the model will need


@dataclass(frozen=True, eq=False)
class _Answered:
    """Between answer and the consumer: one round."""

    events: list[SourceEvent]
    results: list[FrameResult]


class Conveyor:
    """Iterate over it for results and events; leave the `with` block to end all its threads."""

    def __init__(self, sources: Captures | Sequence[Source], pipeline: Pipeline) -> None:
        """Opens the sources. Raises SourceError where one cannot be, and ValueError when live sources and others are
        mixed: of the ones frames are skipped, of the others never."""
        self._captures = sources if isinstance(sources, Captures) else Captures(sources)
        infos = self._captures.open()
        if len({info.live for info in infos}) != 1:
            self._captures.stop()
            raise ValueError("expected sources that are all live or all not")
        live = self._live = infos[0].live
        self._pipeline, self._handed = pipeline, dict[str, int]()
        self._seen: Handover[_Seen] = Handover(1 if live else WAITING, self._newer_seen if live else None)
        self._answered: Handover[_Answered] = Handover(1 if live else WAITING, _newer_answered if live else None)
        self._feedback: queue.SimpleQueue[Feedback | None] = queue.SimpleQueue()  # from answer to see; None: no more
        self._unheard = 0  # rounds of a file whose feedback has not come; only the thread that sees knows it
        self._free = threading.Condition()  # the model is, or will soon be
        self._free_s, self._see_s = 0.0, 0.0  # expected time of that; how long seeing takes
        self._put_s: float | None = None  # when the sight that waits to be answered was put there
        self._threads = [
            threading.Thread(target=self._guarded, args=(stage, out), name=name, daemon=True)
            for name, stage, out in (("see", self._see, self._seen), ("answer", self._answer, self._answered))
        ]

    def __enter__(self) -> Conveyor:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """End all stages soon; what has not been taken is lost. Safe to call twice, and from any thread."""
        self._captures.stop()
        self._seen.close(drop=True)
        self._answered.close(drop=True)
        self._feedback.put(None)
        self._expect(0.0)

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
                last = [event for event in answered.events if event.kind in ("ended", "failed")]
                yield from (event for event in answered.events if event not in last)
                for result in answered.results:
                    yield self._stamped(result)
                yield from last  # after the frames that are there

    def _stamped(self, result: FrameResult) -> FrameResult:
        """The result at the moment it is handed over: how old it is, and how many of its source were dropped before it."""
        name = result.frame.source
        self._handed[name] = self._handed.get(name, 0) + 1
        latency_s = time.monotonic() - result.frame.captured_s
        times_s = {**result.times_s, "waiting": result.times_s.get("waiting", 0.0) + latency_s - result.latency_s}
        dropped = result.frame.index + 1 - self._handed[name]
        return replace(result, latency_s=latency_s, dropped=dropped, times_s=times_s)

    def _guarded(self, stage: Callable[[], None], out: Handover[_Seen] | Handover[_Answered]) -> None:
        """Run a stage to its end, and pass on what ended it."""
        try:
            stage()
        except Closed:
            out.close()
        except BaseException as error:  # raised again where the results are taken
            out.close(error)
        else:
            out.close()
        finally:
            self._feedback.put(None)  # if this was the answering stage, nobody else will wait for it

    def _hear(self) -> Iterator[Feedback]:
        """What the model's calls have told: so far, or of files of all frames before. Raises Closed when there is no more."""
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
            results, feedback = self._pipeline.answerer.answer(seen.sights)
            self._feedback.put(feedback)
            self._expect(0.0)
            if not self._answered.put(_Answered(seen.events, results)):
                return

    def _wait_until_needed(self) -> None:
        """Of a live source the next frame is taken when what is seen in it will be answered at once."""
        with self._free:
            while self._live:
                in_time_s = self._free_s - self._see_s
                if self._put_s is not None and self._put_s > in_time_s:  # what waits is as fresh as another could be
                    in_time_s = max(self._free_s, self._put_s) + GRACE_S
                pause_s = in_time_s - time.monotonic()
                if pause_s <= 0:
                    return
                self._free.wait(pause_s)

    def _expect(self, free_s: float) -> None:
        """The model will be free at this time."""
        with self._free:
            self._free_s = free_s
            self._free.notify_all()

    def _newer_seen(self, old: _Seen, new: _Seen) -> _Seen:
        """Of each source the newest sight; looks that were chosen for the others are given back."""
        here = {sight.frame.source for sight in new.sights}
        self._pipeline.seer.unask([sight for sight in old.sights if sight.frame.source in here])
        kept = [sight for sight in old.sights if sight.frame.source not in here]
        sights = kept + new.sights
        return _Seen(old.events + new.events, sights, self._pipeline.seer.expected_s(sights))


def _newer_answered(old: _Answered, new: _Answered) -> _Answered:
    """Of each source the newest result."""
    here = {result.frame.source for result in new.results}
    kept = [result for result in old.results if result.frame.source not in here]
    return _Answered(old.events + new.events, kept + new.results)
