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
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...errors import DataError, OutputError

Record = dict[str, Any]
ONCE = "once"
PACKAGES = ("torch", "open_clip_torch", "timm", "numpy")


@dataclass(frozen=True)
class Run:
    """One training or measurement: a row of the table, what it changes of the base, and its seed. Plain JSON values."""

    row: str
    changes: Mapping[str, Any]
    seed: int = 0

    @property
    def key(self) -> str:
        """Equal for equal runs, also after a way through JSON."""
        return json.dumps([self.row, self.changes, self.seed], sort_keys=True)


@dataclass(frozen=True)
class Column:
    """One figure of the table."""

    key: str  # in a record's figures
    title: str
    digits: int = 2
    percent: bool = False  # a share, shown in per cent


@dataclass(frozen=True, eq=False)
class Study:
    """What a study's module says about it; `measure` gets the bench that the verb has set up."""

    name: str
    question: str  # the first paragraph of its page
    rows: Callable[[Any], Mapping[str, Mapping[str, Any]]]  # base settings -> row: changes
    measure: Callable[[Any, Run], Record]  # bench, run -> {"figures": {...}} or {"rows": {row: {...}}}, and more
    columns: Callable[[Any], Sequence[Column]]  # base settings -> the table's columns
    draw: Callable[[Any, Results], None]  # matplotlib figure, results
    needs_data: bool = True
    set_up: Callable[[Results], str] | None = None  # the conditions, where they are not those of a training


@dataclass(eq=False)
class Results:
    """A study's finished runs and the settings they share."""

    study: str
    base: Mapping[str, Any]
    runs: list[Record] = field(default_factory=lambda: list[Record]())
    versions: Mapping[str, str] = field(default_factory=lambda: {p: version(p) for p in PACKAGES})

    def missing(self, wanted: Sequence[Run]) -> list[Run]:
        """Those of the wanted runs that are not there yet, in their order."""
        have = {Run(r["row"], r["changes"], r["seed"]).key for r in self.runs}
        return [run for run in wanted if run.key not in have]

    def sort(self, wanted: Sequence[Run]) -> None:
        """Bring the runs into the order of the plan, also those that were done late; what is not wanted goes last."""
        place = {run.key: at for at, run in enumerate(wanted)}
        self.runs.sort(key=lambda r: place.get(Run(r["row"], r["changes"], r["seed"]).key, len(place)))

    def rows(self) -> dict[str, list[Record]]:
        """The figures of each row, one record per seed, in the order of first appearance."""
        found: dict[str, list[Record]] = {}
        for record in self.runs:
            named = record["rows"] if "rows" in record else {record["row"]: record["figures"]}
            for row, figures in named.items():
                found.setdefault(row, []).append(figures)
        return found


def plan(study: Study, base: Any, seeds: int) -> list[Run]:
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
    study: Study, bench: Any, wanted: Sequence[Run], results: Results, path: Path, say: Callable[[str], None]
):
    """Do the missing runs one by one; each is on disk before the next begins."""
    missing = results.missing(wanted)
    for number, run in enumerate(missing, start=len(wanted) - len(missing) + 1):
        started = time.monotonic()
        measured = study.measure(bench, run)
        seconds = round(time.monotonic() - started, 1)
        results.runs.append(
            {"row": run.row, "changes": dict(run.changes), "seed": run.seed, **measured, "seconds": seconds}
        )
        results.sort(wanted)
        save(results, path)
        say(f"{study.name} {number}/{len(wanted)}: {run.row}, seed {run.seed}: {seconds:.0f} s")


def save(results: Results, path: Path) -> None:
    """Write the file whole or not at all; raises OutputError."""
    content = {"study": results.study, "base": dict(results.base), "versions": dict(results.versions)}
    lines = ",\n".join("  " + json.dumps(run, allow_nan=False) for run in results.runs)
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
        results = Results(raw["study"], raw["base"], list(raw["runs"]), raw["versions"])
        results.missing([])
        results.rows()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: expected a study's results, it cannot be read ({error}); remove it") from None
    return results


def open_results(path: Path, study: str, base: Mapping[str, Any]) -> Results:
    """The file's results to go on with, or none yet; raises DataError where they were made with other settings."""
    if not path.exists():
        return Results(study, base)
    results = load(path)
    wanted = json.loads(json.dumps({"study": study, **base}))
    have = {"study": results.study, **results.base}
    for name in (*wanted, *have):
        if wanted.get(name) != have.get(name):
            raise DataError(
                f"{path}: expected {name} {have.get(name)!r} as it began, got {wanted.get(name)!r}; give the same, or another --out"
            )
    return results


@dataclass(frozen=True)
class Spread:
    """A figure over seeds."""

    mean: float
    deviation: float | None  # sample standard deviation; None for a single seed
    n: int


def spread(records: Sequence[Record], key: str) -> Spread | None:
    """Mean and sample standard deviation of one figure over the records that have it; None where none has."""
    values = [float(r[key]) for r in records if r.get(key) is not None]
    if not values:
        return None
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Spread(mean, None, 1)
    return Spread(mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)), len(values))
