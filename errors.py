"""What can go wrong, as one small tree; each message says what was expected, what came, and what to do.

NumclipError
├── UsageError      flags that cannot go together, a name that does not exist
├── ModelError      a model file, checkpoint or spec that cannot be used
├── SourceError     a camera, file, folder or stream that cannot be read
├── DataError       labelled faces that are missing, malformed or too few
├── DetectorError   a face detector that is missing or unfit for the job
├── DeviceError     a device or a library that was asked for and is not there
└── OutputError     an output that cannot be written
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NumclipError(Exception):
    """Anything numclip reports to a person in one sentence."""


class UsageError(NumclipError):
    """A request that contradicts itself or names something that does not exist."""


class ModelError(NumclipError):
    """A model file, checkpoint or spec that cannot be used."""


class SourceError(NumclipError):
    """A camera, file, folder or stream that cannot be read."""


class DataError(NumclipError):
    """Labelled faces that are missing, malformed or too few."""


class DetectorError(NumclipError):
    """A face detector that is missing or unfit for the job."""


class DeviceError(NumclipError):
    """A device or library that was asked for and is not there."""


class OutputError(NumclipError):
    """An output that cannot be written."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest known name, or nothing."""
    close = nearest(wrong, known)
    return f"; did you mean {close}?" if close else ""


def nearest(wrong: str, known: Iterable[str], alike: float = 0.6) -> str | None:
    """The known name that is most like the wrong one; None where none is at least so much alike (1 is the same)."""
    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=alike)
    return close[0] if close else None
