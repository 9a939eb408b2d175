"""Options and summary of a bulk run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..runtime.contract.model_file import FINDER

Engine = Literal["local", "ray"]
Format = Literal["parquet", "csv", "jsonl"]
STAGES: tuple[str, ...] = ("read", "decode", "find", "age", "write")


@dataclass(frozen=True)
class BulkOptions:
    """Options of `numclip.bulk.bulk`: a collection of pictures and videos, and how to read it."""

    inputs: tuple[str, ...]
    """Folders (read with their subfolders), files, globs, .tar and .zip archives, URLs, and fsspec addresses such as s3://bucket/folder."""

    out: Path
    """Output folder. If it holds an unfinished run of the same inputs, that run is continued."""

    from_file: Path | None = None
    """A text file with more inputs, one per line; relative paths are relative to this file."""

    model: str = "age-nano"
    """Name of a model, an .onnx or .engine file, or hf://owner/name."""

    detector: str = FINDER
    """Name of the face detector."""

    device: str = "auto"
    """Device that runs the model."""

    level: float = 0.9
    """Coverage of the interval `low` to `high`: the probability that it contains the true value."""

    min_face_px: int = 24
    """Smallest face that is read, px; smaller faces get a row without a value, with the reason `small`."""

    max_faces: int | None = None
    """Maximum number of faces per picture or frame, largest first; None: 32 in video, no limit in pictures."""

    video: str = "track"
    """Rows of a video: `track` (one row per tracked person), `frame` (rows of every frame), or seconds between frames with rows."""

    workers: int | None = None
    """Number of worker processes; None: one per processor that this process may use."""

    unit_size: int = 200
    """Pictures per unit of work. A killed run repeats at most one unit per worker."""

    dedupe: bool = False
    """Read identical files once and copy their rows for every duplicate."""

    shard: tuple[int, int] = (1, 1)
    """(i, n): read only part i of n, i from 1."""

    engine: Engine = "local"
    """`local`: processes on this machine. `ray`: Ray Data, on this machine or on the cluster at `address`."""

    address: str | None = None
    """Address of a running Ray cluster; None: Ray starts on this machine."""

    formats: tuple[Format, ...] = ("parquet",)
    """Formats of further copies of the faces table, besides Parquet."""

    update: bool = False
    """Continue even if inputs changed since the first run: read changed units again and drop units of removed inputs."""


@dataclass(frozen=True)
class BulkSummary:
    """Summary of a finished run."""

    inputs: int
    """Number of inputs: files, archive members and URLs."""

    faces: int
    """Number of rows in the faces table."""

    without_faces: int
    """Number of pictures and videos without a detected face."""

    errors: int
    """Number of inputs that could not be read; each has a row in the errors table."""

    duplicates: int
    """Number of inputs whose rows were copied from an identical file."""

    units: int
    """Number of units of work in this run's shard."""

    units_resumed: int
    """Number of units that an earlier run had finished."""

    workers: int
    """Number of worker processes."""

    seconds: float
    """Wall-clock time of this run, s."""

    stage_seconds: dict[str, float]
    """Time by stage (STAGES), s, summed over the workers of this run."""

    files: tuple[str, ...]
    """Files that were written, relative to the output folder."""

    def to_json(self) -> dict[str, object]:
        """Return the content of summary.json, without the settings."""
        return {
            "inputs": self.inputs,
            "faces": self.faces,
            "without_faces": self.without_faces,
            "errors": self.errors,
            "duplicates": self.duplicates,
            "units": self.units,
            "units_resumed": self.units_resumed,
            "workers": self.workers,
            "seconds": round(self.seconds, 3),
            "stage_seconds": {name: round(value, 3) for name, value in self.stage_seconds.items()},
            "files": list(self.files),
        }
