"""A bounded queue between two threads: the reader waits when it is empty; when it is full, the writer waits or replaces an item."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """The queue is closed and empty."""


class Handover(Generic[T]):
    """A first-in, first-out queue between one writing and one reading thread."""

    def __init__(self, size: int, replace: Callable[[T, T], T] | None = None) -> None:
        """replace: combines the last waiting item with a new one when all `size` places are taken; None: wait instead."""
        self._items: deque[T] = deque()
        self._size, self._replace = size, replace
        self._closed = False
        self._changed = threading.Condition()
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Add an item; False if nobody reads any more."""
        with self._changed:
            if self._replace is None:
                self._changed.wait_for(lambda: self._closed or len(self._items) < self._size)
            if self._closed:
                return False
            if len(self._items) >= self._size and self._replace is not None:
                item = self._replace(self._items.pop(), item)
            self._items.append(item)
            self._changed.notify_all()
            return True

    def take(self, timeout_s: float | None = None) -> T | None:
        """The oldest item; None if none arrived in time. Raises Closed at the end, or the error that closed the queue."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._items) or self._closed, timeout_s)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if not self._closed:
                return None
            if self._error is not None:
                raise self._error
            raise Closed

    def close(self, error: BaseException | None = None, drop: bool = False) -> None:
        """Close for writing; waiting items can still be read, unless they are dropped."""
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            if drop:
                self._items.clear()
            self._changed.notify_all()
