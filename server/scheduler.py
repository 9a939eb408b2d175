"""One model for many clients: their work waits in one bounded queue, and a few threads do it.

Clients take turns, each with its oldest work. When the queue is full and the client with the most work has more than the newcomer, it
loses its newest piece to the newcomer. Otherwise the newcomer is refused. Work of the same kind may be done together, as a batch.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

LEARNING = 0.1  # weight of the newest call in the estimate
GUESS_S = 0.03  # time of one piece of work, before any was timed

# Does several pieces of work in one call. An exception in the list is the answer to its piece alone.
Run = Callable[[Sequence[Any]], Sequence[object]]


class Overloaded(Exception):
    """The queue is full."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"try again in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class ShutDown(Exception):
    """The server is shutting down and takes no new work."""


@dataclass(eq=False)
class _Work:
    """One piece of work that waits."""

    payload: object
    client: str
    run: Run
    put_s: float
    future: Future[object] = field(default_factory=lambda: Future[object]())


class Scheduler:
    """The queue, and the threads that do the work."""

    def __init__(self, workers: int, places: int, batch: int = 1, window_s: float = 0.0) -> None:
        """workers: threads. places: pieces of work that may wait. batch: most pieces of one kind in a call.
        window_s: how long a piece waits for others of its kind, if batch is above 1."""
        self._places, self._batch, self._window_s = places, batch, window_s
        self._waiting: OrderedDict[str, deque[_Work]] = OrderedDict()  # by client, whose turn it is first
        self._many, self._each_s = 0, GUESS_S
        self._changed = threading.Condition()
        self._closed = False
        self._busy_since_s: dict[str, float] = {}  # by thread
        self.batches: dict[int, int] = {}  # how many calls had so many pieces
        self._threads = [threading.Thread(target=self._work, name=f"reader {i}", daemon=True) for i in range(workers)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Pieces that wait."""
        return self._many

    @property
    def retry_after_s(self) -> float:
        """How long until what waits now is done."""
        return self._many * self._each_s / len(self._threads)

    def submit(self, payload: object, client: str, run: Run) -> Future[object]:
        """Queue a piece of work. Cancel the future to take it back. Raises Overloaded or ShutDown."""
        work = _Work(payload, client, run, time.monotonic())
        given_up: _Work | None = None
        with self._changed:
            if self._closed:
                raise ShutDown
            if self._many >= self._places:
                given_up = self._give_up_for(client)
            self._waiting.setdefault(client, deque()).append(work)
            self._many += 1
            self._changed.notify()
        if given_up is not None:
            given_up.future.set_exception(Overloaded(self.retry_after_s))
        work.future.add_done_callback(self._forget)
        return work.future

    def _give_up_for(self, client: str) -> _Work:
        """Take the newest work of the client with the most. Called with the condition held. Raises Overloaded."""
        mine = len(self._waiting.get(client, ()))
        greediest = max(self._waiting, key=lambda name: len(self._waiting[name]))
        if len(self._waiting[greediest]) <= mine + 1:
            raise Overloaded(self.retry_after_s)
        return self._pop(greediest, newest=True)

    def _pop(self, client: str, newest: bool = False) -> _Work:
        queue = self._waiting[client]
        work = queue.pop() if newest else queue.popleft()
        if not queue:
            del self._waiting[client]
        self._many -= 1
        return work

    def _forget(self, future: Future[object]) -> None:
        """Remove the work of a cancelled future from the queue. (The work is looked up: a callback that held it would make a
        reference cycle, which keeps the sent bytes until the next garbage collection.)"""
        if not future.cancelled():
            return
        with self._changed:
            for client, queue in self._waiting.items():
                for work in queue:
                    if work.future is future:
                        queue.remove(work)
                        self._many -= 1
                        if not queue:
                            del self._waiting[client]
                        return

    def _take(self) -> list[_Work] | None:
        """The pieces of the next call, in turns; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._many > 0 or self._closed)
            if self._many == 0:
                return None
            taken = [self._next()]
            until_s = taken[0].put_s + self._window_s
            while len(taken) < self._batch:
                more = self._next_like(taken[0])
                if more is not None:
                    taken.append(more)
                    continue
                pause_s = until_s - time.monotonic()
                if pause_s <= 0 or self._closed or self._many > 0:  # the next piece is of another kind
                    break
                self._changed.wait(pause_s)
            return taken

    def _next(self) -> _Work:
        client = next(iter(self._waiting))
        work = self._pop(client)
        if client in self._waiting:
            self._waiting.move_to_end(client)
        return work

    def _next_like(self, first: _Work) -> _Work | None:
        """The next piece if it is of the same kind, else None."""
        if self._many == 0 or next(iter(self._waiting.values()))[0].run != first.run:
            return None
        return self._next()

    def _work(self) -> None:
        name = threading.current_thread().name
        while (taken := self._take()) is not None:
            works = [work for work in taken if work.future.set_running_or_notify_cancel()]
            if not works:
                continue
            started_s = time.monotonic()
            self._busy_since_s[name] = started_s
            try:
                answers = works[0].run([work.payload for work in works])
            except BaseException as error:  # each client gets it
                answers = [error] * len(works)
            self._busy_since_s.pop(name, None)
            with self._changed:
                self.batches[len(works)] = self.batches.get(len(works), 0) + 1
                spent_s = (time.monotonic() - started_s) / len(works)
                self._each_s += LEARNING * (spent_s - self._each_s)
            for work, answer in zip(works, answers, strict=True):
                if isinstance(answer, BaseException):
                    work.future.set_exception(answer)
                else:
                    work.future.set_result(answer)

    def stuck(self, seconds: float) -> bool:
        """Whether a thread has ended, or one call has run for longer than this."""
        before_s = time.monotonic() - seconds
        return not all(t.is_alive() for t in self._threads) or any(
            since_s < before_s for since_s in list(self._busy_since_s.values())
        )

    def close(self, seconds: float) -> None:
        """Take no new work, finish the waiting work, end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        deadline_s = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
