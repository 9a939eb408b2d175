"""What can go wrong, as one small tree; each message says what was expected, what came, and what to do.

NumclipError
├── UsageError      flags that cannot go together, a name that does not exist
├── ModelError      a model file, checkpoint or spec that cannot be used
├── SourceError     a camera, file, folder or stream that cannot be read
├── DataError       labelled faces that are missing, malformed or too few
├── DetectorError   a face detector that is missing or unfit for the job
├── DeviceError     a device or a library that was asked for and is not there
└── SinkError       an output that cannot be written
"""


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


class SinkError(NumclipError):
    """An output that cannot be written."""
