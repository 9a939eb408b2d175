"""A study: a question, named runs over seeds, and a file with every finished run, so that an interrupted study can continue.

The file is `OUT/NAME.json`: the study's settings, then one record per run with its changes and measurements. It is written
atomically after every run; a study that is started again does only the missing runs.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DataError, OutputError
from ...train.records import Json, from_json
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .bench import Bench

Changes = Mapping[str, Json]  # changes of a run to the base settings
Row = Mapping[str, float | None]  # figures of one row and seed; None: not measured
ONCE = "once"
PACKAGES = ("torch", "open_clip_torch", "timm", "numpy")


@dataclass(frozen=True)
class Run:
    """One training or measurement: its row of the table, its changes to the base settings, and its seed."""

    row: str
    changes: Changes
    seed: int = 0

    @property
    def key(self) -> str:
        """Return a key that is equal for equal runs, also after conversion to JSON and back."""
        return json.dumps([self.row, self.changes, self.seed], sort_keys=True)


@dataclass(frozen=True)
class Measured:
    """Results of one run: figures, or the figures of several rows at once, and data for plot and page."""

    figures: Row | None = None
    rows: Mapping[str, Row] | None = None
    val_n: Mapping[str, int] | None = None
    """Number of validation pictures by part of the scale."""
    places: tuple[tuple[float, ...], ...] | None = None
    """Positions [N, 2] of a t-SNE plot."""
    labels: tuple[float, ...] | None = None
    """Labels [N] of the same pictures."""
    threads: int | None = None
    """CPU threads during a time measurement."""
    sizes: tuple[int, ...] | None = None
    """Numbers of pictures that were timed."""
    batch: int | None = None
    """Pictures per call."""


@dataclass(frozen=True)
class Record:
    """A finished run."""

    run: Run
    measured: Measured
    seconds: float = 0.0

    def rows(self) -> Mapping[str, Row]:
        """Return the figures by row."""
        return self.measured.rows or {self.run.row: self.measured.figures or {}}

    def to_json(self) -> dict[str, Json]:
        """Return the run as a line of the results file."""
        found = {name: value for name, value in asdict(self.measured).items() if value is not None}
        return {**asdict(self.run), **found, "seconds": self.seconds}

    @staticmethod
    def from_json(raw: Mapping[str, object]) -> Record:
        """Read a line of the results file; raises ValueError that names the wrong field."""
        known = [{f.name for f in fields(kind)} for kind in (Run, Measured)]
        run, measured = ({name: raw[name] for name in raw if name in names} for names in known)
        found = from_json(Measured, measured, "run")
        if found.figures is None and found.rows is None:
            raise ValueError("run: expected figures or rows")
        return Record(from_json(Run, run, "run"), found, from_json(float, raw.get("seconds", 0.0), "run.seconds"))


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    key: str
    """Key of the figure in a row."""
    title: str
    digits: int = 2
    percent: bool = False
    """Whether the figure is a share, shown in per cent."""


@dataclass(frozen=True, eq=False)
class Study:
    """The definition of a study."""

    name: str
    question: str
    """The first paragraph of its page."""
    rows: Callable[[Settings], Mapping[str, Changes]]
    """Returns the changes of each row."""
    measure: Callable[[Bench, Run], Measured]
    columns: Callable[[Settings], Sequence[Column]]
    """Returns the columns of the table."""
    draw: Callable[[Figure, Results], None]
    needs_data: bool = True
    set_up: Callable[[Results], str] | None = None
    """Returns the text on the set-up, if it differs from that of a training."""


@dataclass(eq=False)
class Results:
    """A study's finished runs and their common settings."""

    study: str
    base: Settings
    runs: list[Record] = field(default_factory=lambda: list[Record]())
    versions: Mapping[str, str] = field(default_factory=lambda: {p: version(p) for p in PACKAGES})

    def missing(self, wanted: Sequence[Run]) -> list[Run]:
        """Return the planned runs that are not finished yet, in order."""
        have = {record.run.key for record in self.runs}
        return [run for run in wanted if run.key not in have]

    def sort(self, wanted: Sequence[Run]) -> None:
        """Sort the runs in the order of the plan; runs that are not planned go last."""
        place = {run.key: at for at, run in enumerate(wanted)}
        self.runs.sort(key=lambda record: place.get(record.run.key, len(place)))

    def rows(self) -> dict[str, list[Row]]:
        """Return the figures of each row, one per seed, in order of first appearance."""
        found: dict[str, list[Row]] = {}
        for record in self.runs:
            for row, figures in record.rows().items():
                found.setdefault(row, []).append(figures)
        return found


def plan(study: Study, base: Settings, seeds: int) -> list[Run]:
    """Return all runs of a study: every row with the first seed, then with the next, so that a partial study has a complete table.

    A row whose changes contain ONCE is not random and is measured with the first seed only.
    """
    rows = study.rows(base)
    return [
        Run(row, changes, seed)
        for seed in range(seeds)
        for row, changes in rows.items()
        if seed == 0 or ONCE not in changes
    ]


def carry_out(
    study: Study, bench: Bench, wanted: Sequence[Run], results: Results, path: Path, say: Callable[[str], None]
) -> None:
    """Do the missing runs one by one; each is saved before the next begins."""
    missing = results.missing(wanted)
    for number, run in enumerate(missing, start=len(wanted) - len(missing) + 1):
        started = time.monotonic()
        measured = study.measure(bench, run)
        seconds = round(time.monotonic() - started, 1)
        results.runs.append(Record(run, measured, seconds))
        results.sort(wanted)
        save(results, path)
        say(f"{study.name} {number}/{len(wanted)}: {run.row}, seed {run.seed}: {seconds:.0f} s")


def save(results: Results, path: Path) -> None:
    """Write the file atomically; raises OutputError."""
    content = {"study": results.study, "base": asdict(results.base), "versions": dict(results.versions)}
    lines = ",\n".join("  " + json.dumps(run.to_json(), allow_nan=False) for run in results.runs)
    head = json.dumps(content, indent=1, allow_nan=False)
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(f'{head[:-2]},\n "runs": [\n{lines}\n ]\n}}\n', encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror}); free space or give another --out") from None
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> Results:
    """Load a study's file; raises DataError with the reason."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        base, runs = from_json(Settings, raw["base"], "base"), [Record.from_json(run) for run in raw["runs"]]
        results = Results(str(raw["study"]), base, runs, from_json(Mapping[str, str], raw["versions"], "versions"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: expected a study's results, got an error: {error}; remove the file") from None
    return results


def open_results(path: Path, study: str, base: Settings) -> Results:
    """Open the file's results to continue, or start new ones; raises DataError if the file has other settings."""
    if not path.exists():
        return Results(study, base)
    results = load(path)
    wanted, have = ({"study": name, **asdict(b)} for name, b in ((study, base), (results.study, results.base)))
    for name in wanted:
        if wanted[name] != have[name]:
            raise DataError(
                f"{path}: expected {name} {have[name]!r} as in its earlier runs, got {wanted[name]!r}; give the same value, or another --out"
            )
    return results


@dataclass(frozen=True)
class Spread:
    """Mean and deviation of a figure over seeds."""

    mean: float
    deviation: float | None  # sample standard deviation; None for a single seed
    n: int


def spread(rows: Sequence[Row], key: str) -> Spread | None:
    """Return mean and sample standard deviation of a figure over the rows that have it; None if no row has it."""
    values = [value for row in rows if (value := row.get(key)) is not None]
    if not values:
        return None
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Spread(mean, None, 1)
    return Spread(mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)), len(values))
