"""What a bulk run is asked to do, and what it answers."""

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
    """A collection of pictures and videos, and how it is read."""

    inputs: tuple[str, ...]
    """Folders (read with their subfolders), files, globs, .tar and .zip archives, URLs, and fsspec addresses such as s3://bucket/folder."""

    out: Path
    """The folder of the result. A folder that holds an unfinished run of the same inputs is continued."""

    from_file: Path | None = None
    """A text file with one more input per line; relative paths are relative to this file."""

    model: str = "age-nano"
    """A model's name or .onnx file."""

    detector: str = FINDER
    """The face detector's name."""

    device: str = "auto"
    """Where the model runs."""

    level: float = 0.9
    """Probability with which `low` to `high` contains the true value."""

    min_face_px: int = 24
    """Smaller faces get a row without a value, with the reason `small`."""

    max_faces: int | None = None
    """Faces per picture or frame at most, the largest first; None: 32 in video, all in a picture."""

    video: str = "track"
    """Rows of a video: `track` (one row per person followed), `frame` (every frame), or seconds between two frames that are read."""

    workers: int | None = None
    """Reading processes; None: one per processor of this machine that this process may use."""

    unit_size: int = 200
    """Pictures per unit of work. A unit is written whole; a killed run repeats at most one unit per worker."""

    dedupe: bool = False
    """Read files of the same bytes once, and repeat their rows for every copy."""

    shard: tuple[int, int] = (1, 1)
    """(i, n): read the i-th of n parts of the units, i from 1."""

    engine: Engine = "local"
    """`local`: processes on this machine. `ray`: Ray Data, on this machine or on the cluster at `address`."""

    address: str | None = None
    """Address of a running Ray cluster; None: Ray starts on this machine."""

    formats: tuple[Format, ...] = ("parquet",)
    """Further copies of the faces table to write beside the Parquet files."""

    update: bool = False
    """Continue although inputs changed since the first run: changed units are read again, units of removed inputs are dropped."""


@dataclass(frozen=True)
class BulkSummary:
    """What a finished run found."""

    inputs: int
    """Files, archive members and URLs that were to be read."""

    faces: int
    """Rows in the faces table."""

    without_faces: int
    """Pictures and videos in which no face was found."""

    errors: int
    """Inputs that could not be read; each has a row in the errors table."""

    duplicates: int
    """Inputs whose rows were copied from a file of the same bytes."""

    units: int
    """Units of work in this run's shard."""

    units_resumed: int
    """Units that an earlier run had finished."""

    workers: int
    """Reading processes."""

    seconds: float
    """Wall-clock time of this run, s."""

    stage_seconds: dict[str, float]
    """Processor-bound time by stage (STAGES), s, summed over the workers of this run."""

    files: tuple[str, ...]
    """What was written, relative to the output folder."""

    def to_json(self) -> dict[str, object]:
        """The content of summary.json, apart from the settings."""
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
