"""A study: a question, named runs over seeds, and a file that keeps each finished run, so that a killed study goes on.

The file is `OUT/NAME.json`: the study's settings, then one record per run with what it changed and what was measured.
It is written whole under a temporary name after every run; a study that is started again does the missing runs only.
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

Changes = Mapping[str, Json]  # what a run changes of the base
Row = Mapping[str, float | None]  # the figures of one row and seed; None: not measured
ONCE = "once"
PACKAGES = ("torch", "open_clip_torch", "timm", "numpy")


@dataclass(frozen=True)
class Run:
    """One training or measurement: a row of the table, what it changes of the base, and its seed."""

    row: str
    changes: Changes
    seed: int = 0

    @property
    def key(self) -> str:
        """Equal for equal runs, also after a way through JSON."""
        return json.dumps([self.row, self.changes, self.seed], sort_keys=True)


@dataclass(frozen=True)
class Measured:
    """What one run found: figures, or the figures of several rows at once, and what a plot or a page needs besides."""

    figures: Row | None = None
    rows: Mapping[str, Row] | None = None
    val_n: Mapping[str, int] | None = None
    """Validation pictures by part of the scale."""
    places: tuple[tuple[float, ...], ...] | None = None
    """[N, 2] of a t-SNE picture."""
    labels: tuple[float, ...] | None = None
    """[N] of the same pictures."""
    threads: int | None = None
    """CPU threads of a measurement of time."""
    sizes: tuple[int, ...] | None = None
    """Numbers of pictures whose time was taken."""
    batch: int | None = None
    """Pictures read at a time."""


@dataclass(frozen=True)
class Record:
    """A finished run."""

    run: Run
    measured: Measured
    seconds: float = 0.0

    def rows(self) -> Mapping[str, Row]:
        """The figures by row."""
        return self.measured.rows or {self.run.row: self.measured.figures or {}}

    def to_json(self) -> dict[str, Json]:
        """A line of the results file."""
        found = {name: value for name, value in asdict(self.measured).items() if value is not None}
        return {**asdict(self.run), **found, "seconds": self.seconds}

    @staticmethod
    def from_json(raw: Mapping[str, object]) -> Record:
        """A line of the results file; raises ValueError naming the field that is wrong."""
        known = [{f.name for f in fields(kind)} for kind in (Run, Measured)]
        run, measured = ({name: raw[name] for name in raw if name in names} for names in known)
        found = from_json(Measured, measured, "run")
        if found.figures is None and found.rows is None:
            raise ValueError("run: expected figures or rows")
        return Record(from_json(Run, run, "run"), found, from_json(float, raw.get("seconds", 0.0), "run.seconds"))


@dataclass(frozen=True)
class Column:
    """One figure of the table."""

    key: str
    """In a row's figures."""
    title: str
    digits: int = 2
    percent: bool = False
    """A share, shown in per cent."""


@dataclass(frozen=True, eq=False)
class Study:
    """What a study's module says about it."""

    name: str
    question: str
    """The first paragraph of its page."""
    rows: Callable[[Settings], Mapping[str, Changes]]
    """What each row changes."""
    measure: Callable[[Bench, Run], Measured]
    columns: Callable[[Settings], Sequence[Column]]
    """Of the table."""
    draw: Callable[[Figure, Results], None]
    needs_data: bool = True
    set_up: Callable[[Results], str] | None = None
    """The conditions, where they are not those of a training."""


@dataclass(eq=False)
class Results:
    """A study's finished runs and the settings they share."""

    study: str
    base: Settings
    runs: list[Record] = field(default_factory=lambda: list[Record]())
    versions: Mapping[str, str] = field(default_factory=lambda: {p: version(p) for p in PACKAGES})

    def missing(self, wanted: Sequence[Run]) -> list[Run]:
        """Those of the wanted runs that are not there yet, in their order."""
        have = {record.run.key for record in self.runs}
        return [run for run in wanted if run.key not in have]

    def sort(self, wanted: Sequence[Run]) -> None:
        """Bring the runs into the order of the plan, also those that were done late; what is not wanted goes last."""
        place = {run.key: at for at, run in enumerate(wanted)}
        self.runs.sort(key=lambda record: place.get(record.run.key, len(place)))

    def rows(self) -> dict[str, list[Row]]:
        """The figures of each row, one for each seed, in the order of first appearance."""
        found: dict[str, list[Row]] = {}
        for record in self.runs:
            for row, figures in record.rows().items():
                found.setdefault(row, []).append(figures)
        return found


def plan(study: Study, base: Settings, seeds: int) -> list[Run]:
    """All runs of a study: every row with the first seed, then every row with the next, so that a part is a whole table.

    A row whose changes hold ONCE has nothing random in it and is measured with the first seed only.
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
    """Do the missing runs one by one; each is on disk before the next begins."""
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
    """Write the file whole or not at all; raises OutputError."""
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
    """A study's file; raises DataError saying what is wrong with it."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        base, runs = from_json(Settings, raw["base"], "base"), [Record.from_json(run) for run in raw["runs"]]
        results = Results(str(raw["study"]), base, runs, from_json(Mapping[str, str], raw["versions"], "versions"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: expected a study's results, it cannot be read ({error}); remove it") from None
    return results


def open_results(path: Path, study: str, base: Settings) -> Results:
    """The file's results to go on with, or none yet; raises DataError where they were made with other settings."""
    if not path.exists():
        return Results(study, base)
    results = load(path)
    wanted, have = ({"study": name, **asdict(b)} for name, b in ((study, base), (results.study, results.base)))
    for name in wanted:
        if wanted[name] != have[name]:
            raise DataError(
                f"{path}: expected {name} {have[name]!r} as it began, got {wanted[name]!r}; give the same, or another --out"
            )
    return results


@dataclass(frozen=True)
class Spread:
    """A figure over seeds."""

    mean: float
    deviation: float | None  # sample standard deviation; None for a single seed
    n: int


def spread(rows: Sequence[Row], key: str) -> Spread | None:
    """Mean and sample standard deviation of one figure over the rows that have it; None where none has."""
    values = [value for row in rows if (value := row.get(key)) is not None]
    if not values:
        return None
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Spread(mean, None, 1)
    return Spread(mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)), len(values))
