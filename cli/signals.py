"""Stop a run cleanly between two frames when the process is asked to terminate."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

from ..runtime.sinks.sink import Stop

T = TypeVar("T")


def until_terminated(items: Iterable[T]) -> Iterator[T]:
    """The items, until SIGTERM: a wait for the next item ends at once, and work on the current item is finished first."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may take signals
        yield from items
        return
    asked = waiting = False

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        if waiting:
            raise Stop

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        iterator = iter(items)
        while not asked:
            try:
                waiting = True
                item = next(iterator)
            except (StopIteration, Stop):
                return
            finally:
                waiting = False
            yield item
    finally:
        signal.signal(signal.SIGTERM, before)
