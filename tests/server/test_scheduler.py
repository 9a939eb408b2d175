"""The queue: fair turns between clients, a size limit, batches, and a shutdown without loss."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from numclip.server.scheduler import Overloaded, Scheduler, ShutDown


class Worker:
    """Records its work; waits for `go` first."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.go, self.began = threading.Event(), threading.Event()

    def run(self, payloads: Sequence[str]) -> list[str | Exception]:
        self.calls.append(list(payloads))
        self.began.set()
        assert self.go.wait(10)
        return [ValueError(p) if p == "bad" else p.upper() for p in payloads]


def blocked(worker: Worker, **options: float) -> Scheduler:
    """Return a scheduler whose only thread is busy with a first job."""
    scheduler = Scheduler(1, **{"places": 8, **options})  # type: ignore[arg-type]
    scheduler.submit("first", "nobody", worker.run)
    assert worker.began.wait(10)
    return scheduler


def test_clients_take_turns() -> None:
    """If one client has five jobs and two others one each, the others' jobs are second and third."""
    worker = Worker()
    scheduler = blocked(worker)
    for i in range(5):
        scheduler.submit(f"a{i}", "a", worker.run)
    done = [scheduler.submit(name, name, worker.run) for name in "bc"]
    worker.go.set()
    assert [future.result(10) for future in done] == ["B", "C"]
    scheduler.close(10)
    assert [call[0] for call in worker.calls] == ["first", "a0", "b", "c", "a1", "a2", "a3", "a4"]


def test_a_full_queue_refuses_and_says_when() -> None:
    """With a queue of eight, the ninth job of a client is rejected with a retry time, and the eight are done."""
    worker = Worker()
    scheduler = blocked(worker)
    kept = [scheduler.submit(str(i), "a", worker.run) for i in range(8)]
    with pytest.raises(Overloaded) as refused:
        scheduler.submit("one more", "a", worker.run)
    assert refused.value.retry_after_s > 0
    worker.go.set()
    assert [future.result(10) for future in kept] == [str(i) for i in range(8)]
    assert scheduler.waiting == 0
    scheduler.close(10)


def test_who_has_most_waiting_gives_its_newest_up() -> None:
    """If one client fills the queue of eight, another is still accepted four times, and the first loses only its newest four."""
    worker = Worker()
    scheduler = blocked(worker)
    greedy = [scheduler.submit(str(i), "a", worker.run) for i in range(8)]
    other = [scheduler.submit(f"b{i}", "b", worker.run) for i in range(4)]
    assert [future.done() for future in greedy] == [False] * 4 + [True] * 4
    with pytest.raises(Overloaded):
        greedy[7].result(0)
    with pytest.raises(Overloaded):
        scheduler.submit("b4", "b", worker.run)
    worker.go.set()
    assert [future.result(10) for future in other] == ["B0", "B1", "B2", "B3"]
    scheduler.close(10)


def test_pieces_of_one_kind_are_done_together() -> None:
    """With batches of 3, five jobs of three clients are two calls; another kind of job is a separate call; each client gets its own
    result."""
    worker, other = Worker(), Worker()
    other.go.set()
    scheduler = blocked(worker, batch=3, window_s=0.0)
    futures = [scheduler.submit(p, c, worker.run) for p, c in zip(["1", "bad", "3"], "abc", strict=True)]
    alone = scheduler.submit("x", "d", other.run)
    last = scheduler.submit("5", "e", worker.run)
    worker.go.set()
    assert (futures[0].result(10), futures[2].result(10), alone.result(10), last.result(10)) == ("1", "3", "X", "5")
    with pytest.raises(ValueError, match="bad"):
        futures[1].result(10)
    scheduler.close(10)
    assert worker.calls == [["first"], ["1", "bad", "3"], ["5"]]
    assert scheduler.batches == {1: 3, 3: 1}


def test_a_batch_waits_for_others_within_its_window() -> None:
    """If the second job arrives while the first waits, both run in one call before the window of 30 s ends, because the batch is full."""
    worker = Worker()
    worker.go.set()
    scheduler = Scheduler(1, places=8, batch=2, window_s=30.0)
    first = scheduler.submit("1", "a", worker.run)
    second = scheduler.submit("2", "b", worker.run)
    assert (first.result(10), second.result(10)) == ("1", "2")
    assert worker.calls == [["1", "2"]]
    scheduler.close(10)


def test_what_is_given_up_is_not_done() -> None:
    """A cancelled job leaves the queue at once and never runs."""
    worker = Worker()
    scheduler = blocked(worker)
    gone = scheduler.submit("gone", "a", worker.run)
    kept = scheduler.submit("kept", "a", worker.run)
    assert gone.cancel()
    assert scheduler.waiting == 1
    worker.go.set()
    assert kept.result(10) == "KEPT"
    scheduler.close(10)
    assert ["gone"] not in worker.calls


def test_a_call_that_fails_is_the_answer_to_each_and_not_the_end() -> None:
    """An exception in a call reaches its clients, and the next call still runs."""

    def fail(payloads: Sequence[str]) -> list[str]:
        raise RuntimeError("no")

    worker = Worker()
    worker.go.set()
    scheduler = Scheduler(1, places=8)
    with pytest.raises(RuntimeError, match="no"):
        scheduler.submit("1", "a", fail).result(10)
    assert scheduler.submit("2", "a", worker.run).result(10) == "2"
    assert not scheduler.stuck(60)
    scheduler.close(10)


def test_the_end_answers_what_waits_and_takes_nothing_new() -> None:
    """close() with waiting jobs finishes them and rejects later ones."""
    worker = Worker()
    scheduler = blocked(worker)
    waiting = [scheduler.submit(str(i), "a", worker.run) for i in range(3)]
    closing = threading.Thread(target=scheduler.close, args=(10,))
    closing.start()
    worker.go.set()
    closing.join(10)
    assert [future.result(0) for future in waiting] == ["0", "1", "2"]
    with pytest.raises(ShutDown):
        scheduler.submit("late", "a", worker.run)


def test_a_call_that_does_not_end_is_noticed() -> None:
    """A call that does not end is reported by `stuck`, which the health check and the watchdog use."""
    worker = Worker()
    scheduler = blocked(worker)
    assert not scheduler.stuck(60)
    assert scheduler.stuck(-1)
    worker.go.set()
    scheduler.close(10)
