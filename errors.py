"""The exceptions that numclip raises. Each message states what was expected, what was found, and what to do.

NumclipError
├── UsageError      flags that contradict each other, or a name that does not exist
├── ModelError      a model file, checkpoint or spec that cannot be used
├── SourceError     a camera, file, folder or stream that cannot be read
├── DataError       labelled faces that are missing, malformed or too few
├── DetectorError   a face detector that is missing or unsuitable
├── DeviceError     a requested device or library that is not available
└── OutputError     an output that cannot be written
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable


class NumclipError(Exception):
    """Base class of all errors that numclip reports to the user in one sentence."""


class UsageError(NumclipError):
    """Options that contradict each other, or a name that does not exist."""


class ModelError(NumclipError):
    """A model file, checkpoint or spec that cannot be used."""


class SourceError(NumclipError):
    """A camera, file, folder or stream that cannot be read."""


class DataError(NumclipError):
    """Labelled faces that are missing, malformed or too few."""


class DetectorError(NumclipError):
    """A face detector that is missing or unsuitable."""


class DeviceError(NumclipError):
    """A requested device or library that is not available."""


class OutputError(NumclipError):
    """An output that cannot be written."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean X?` with the nearest known name; an empty string if no name is near."""
    close = nearest(wrong, known)
    return f"; did you mean {close}?" if close else ""


def nearest(wrong: str, known: Iterable[str], alike: float = 0.6) -> str | None:
    """The known name most similar to the wrong one; None if none reaches the similarity `alike` (1 means equal)."""
    scored = [
        (difflib.SequenceMatcher(None, wrong, name).ratio(), _shared_letters(wrong, name), name) for name in known
    ]
    close = max((one for one in scored if one[0] >= alike), default=None)
    return None if close is None else close[2]


def _shared_letters(one: str, other: str) -> int:
    """The number of letters that both words have: of two equally similar names, that with swapped letters is nearer."""
    return (Counter(one) & Counter(other)).total()
