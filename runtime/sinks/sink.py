"""The interface of an output: it receives every result and event once, in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Protocol

from ..live.frames import SourceEvent
from ..live.results import FrameResult

LineOf = Callable[[FrameResult], Mapping[str, object]]  # converts a result to the content of a JSON line


class Sink(Protocol):
    """Receives every result and event once, in order."""

    def write(self, result: FrameResult) -> None: ...

    def tell(self, event: SourceEvent) -> None: ...

    def close(self) -> None: ...


class Stop(Exception):
    """The user closed the window, or the run was asked to stop."""


def json_line(record: Mapping[str, object]) -> bytes:
    """One record as a line of UTF-8 JSON."""
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()
