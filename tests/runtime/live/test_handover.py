"""Hand-over between threads: items arrive once and in order; a full buffer blocks the producer or keeps the newest item."""

from __future__ import annotations

import threading
import time

import pytest

from numclip.runtime.live.handover import Closed, Handover


def test_everything_passes_in_order() -> None:
    """1000 numbers pass a buffer for two with a slow consumer: all arrive in order, and never more than two wait."""
    place: Handover[int] = Handover(2)
    most = 0

    def put() -> None:
        nonlocal most
        for i in range(1000):
            assert place.put(i)
            most = max(most, len(place._items))
        place.close()

    threading.Thread(target=put, daemon=True).start()
    taken = []
    for i in range(1000):
        taken.append(place.take())
        time.sleep(0.005 if i % 100 == 0 else 0)
    with pytest.raises(Closed):
        place.take()
    assert taken == list(range(1000)) and most <= 2


def test_the_newest_wins() -> None:
    """If new items replace old ones, the producer never waits, and the consumer gets the newest item."""
    place: Handover[int] = Handover(1, lambda old, new: new)
    for i in range(100):
        assert place.put(i)
    assert place.take() == 99 and place.take(timeout_s=0.01) is None


def test_an_error_is_raised_after_what_came_before_it() -> None:
    """After two items and an error, the consumer gets both items and then the error; a later put reports that it was closed."""
    place: Handover[int] = Handover(3)
    place.put(1)
    place.put(2)
    place.close(ValueError("broken"))
    assert (place.take(), place.take()) == (1, 2) and not place.put(3)
    with pytest.raises(ValueError, match="broken"):
        place.take()


def test_closing_frees_who_waits() -> None:
    """A producer that waits for space is released, with a notice, when the consumer leaves."""
    place: Handover[int] = Handover(1)
    place.put(1)
    said: list[bool] = []
    thread = threading.Thread(target=lambda: said.append(place.put(2)), daemon=True)
    thread.start()
    place.close(drop=True)
    thread.join(5)
    assert said == [False]
    with pytest.raises(Closed):
        place.take()
