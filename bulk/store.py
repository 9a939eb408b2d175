"""The output folder. Each unit of work is written under a temporary name and then renamed, so a run that is killed at any
moment loses only the units in progress. When all units are done, they are merged in order into the final tables.

    OUT/run.json         settings and unit names of the run, written first
    OUT/.units/NAME/     faces.parquet and inputs.parquet of a finished unit
    OUT/faces/           part-00000.parquet, …: the faces table
    OUT/errors.parquet   inputs that could not be read
    OUT/summary.json     written last: a folder that contains it is complete
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import OutputError, UsageError
from ..runtime.places import write_json, write_whole
from .inputs import Unit
from .options import Format
from .schema import ERRORS, FACES, INPUTS, printable

ROWS_PER_PART, ROWS_PER_GROUP = 1_000_000, 50_000


_RESULT = re.compile(
    r"(?:(?:run|summary){0}\.json|errors{0}\.parquet|faces{0}\.(?:csv|jsonl)|report\.html|part-\d+{0}\.parquet)".format(
        r"(?:-\d+-of-\d+)?"
    )
)


def is_result(path: str, out: Path) -> bool:
    """Return whether a file is one that a run writes into the output folder `out`; hidden files are not considered."""
    folder, name = os.path.split(path)
    if not _RESULT.fullmatch(name):
        return False
    with suppress(OSError):  # the folder does not exist yet
        return os.path.samefile(folder or ".", out / "faces" if name.startswith("part-") else out)
    return False


def missing_shards(out: Path, parts: int) -> list[str]:
    """Return I/N of each of the N shards that has no summary in the output folder."""
    stores = ((part, Store(out, (part, parts))) for part in range(1, parts + 1))
    return [f"{part}/{parts}" for part, store in stores if not store.summary.is_file()]


@dataclass
class Counts:
    """Counts of the merged tables."""

    inputs: int = 0
    faces: int = 0
    without_faces: int = 0
    errors: int = 0
    duplicates: int = 0


@dataclass
class _Inputs:
    """Counts and errors of all units' inputs, before faces are counted."""

    counts: Counts = field(default_factory=Counts)
    errors: list[dict[str, object]] = field(default_factory=list)  # rows of the errors table
    copies: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # by unit: (source, identical source)


def _of_all_shards(settings: object) -> dict[str, object]:
    """The settings that all shards of a folder share: which one it is is replaced by how many there are."""
    known = dict(cast(dict[str, object], settings))
    known["number of shards"] = cast(list[int], known.pop("shard", [1, 1]))[1]
    return known


class Store:
    """An output folder, or one shard's part of it."""

    def __init__(self, out: Path, shard: tuple[int, int] = (1, 1)) -> None:
        self.out = out
        self.suffix = "" if shard == (1, 1) else f"-{shard[0]:04d}-of-{shard[1]:04d}"
        self.units = out / f".units{self.suffix}"
        self.run = out / f"run{self.suffix}.json"
        self.summary = out / f"summary{self.suffix}.json"

    def open(
        self, settings: dict[str, object], units: Sequence[Unit], update: bool, collection: str = ""
    ) -> list[Unit]:
        """Begin or continue a run; returns the units that are still to be read.

        collection: a hash of all units of all shards. Raises UsageError, with the differences, if the folder holds a run, or
        another shard's, with other settings or other inputs. Until `finish` the folder counts as incomplete.
        """
        try:
            self.units.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.out}: the folder cannot be written to ({error.strerror}); give another --out"
            ) from None
        names = [unit.name for unit in units]
        before = self._earlier()
        if before is not None:
            self._check_settings(before["settings"], settings)
            if before["units"] != names and not update:
                raise UsageError(self._changed(units))
        self._check_shards(settings, collection, update)
        self.summary.unlink(missing_ok=True)
        for stale in {path.name for path in self.units.iterdir()} - set(names):
            shutil.rmtree(self.units / stale, ignore_errors=True)
        write_json(self.run, {"settings": settings, "units": names, "collection": collection})
        return [unit for unit in units if not self._intact(unit)]

    def _intact(self, unit: Unit) -> bool:
        """Whether a unit is finished. One whose tables cannot be read, for example after a power failure, is deleted."""
        folder = self.units / unit.name
        if not folder.is_dir():
            return False
        try:
            for name in ("faces.parquet", "inputs.parquet"):
                pq.read_metadata(folder / name)
        except (OSError, pa.ArrowException):
            shutil.rmtree(folder)
            return False
        return True

    def commit(self, unit: str, faces: pa.Table, inputs: pa.Table) -> None:
        """Write a unit's tables completely or not at all. A unit that already exists stays unchanged."""
        draft = self.units / f"{unit}.{os.getpid()}.draft"
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            pq.write_table(faces, draft / "faces.parquet", compression="zstd")
            pq.write_table(inputs, draft / "inputs.parquet", compression="zstd")
            os.rename(draft, self.units / unit)
        except OSError as error:
            if not (self.units / unit).is_dir():
                raise OutputError(
                    f"{self.out}: cannot be written ({error.strerror}); free space and start the same command again"
                ) from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def merge(self, units: Sequence[Unit], formats: Sequence[Format]) -> tuple[Counts, list[str]]:
        """Merge the finished units into the final tables; returns the counts and the names of the files."""
        faces_folder = self.out / "faces"
        try:
            faces_folder.mkdir(exist_ok=True)
            inputs = self._inputs(units)
            repeated = self._repeated(units, inputs.copies)
            erring = {row["source"] for row in inputs.errors}
            inputs.counts.without_faces += sum(
                source not in erring and not repeated[original]
                for each in inputs.copies.values()
                for source, original in each
            )
            tables = partial(self._tables, units, inputs.copies, repeated)
            written, inputs.counts.faces = self._write_faces(tables(), faces_folder)
            for old in faces_folder.glob(f"part-{'[0-9]' * 5}{self.suffix}.parquet"):
                if f"{faces_folder.name}/{old.name}" not in written:
                    old.unlink()
            self._write_table(pa.Table.from_pylist(inputs.errors, ERRORS), f"errors{self.suffix}.parquet")
            written.append(f"errors{self.suffix}.parquet")
            for form in formats:
                if form != "parquet":
                    written.append(self._copy(form, tables()))
            for form in get_args(Format):  # a copy in a format that is not asked for now has the rows of an earlier run
                name = f"faces{self.suffix}.{form}"
                if name not in written:
                    (self.out / name).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.out}: cannot be written ({error.strerror}); free space and start the same command again"
            ) from None
        return inputs.counts, written

    def finish(self, summary: dict[str, object]) -> None:
        """Write summary.json, which marks the folder as complete."""
        write_json(self.summary, summary)

    def _earlier(self) -> dict[str, object] | None:
        return self._read_run(self.run) if self.run.exists() else None

    def _read_run(self, path: Path) -> dict[str, object]:
        try:
            found = json.loads(path.read_text())
            if not isinstance(found, dict) or not isinstance(found.get("settings"), dict) or "units" not in found:
                raise ValueError("it lacks settings or units")
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{path}: cannot be read ({error}); give another --out, or delete the folder {self.out} to start again"
            ) from None
        return found

    def _check_shards(self, settings: dict[str, object], collection: str, update: bool) -> None:
        """Raise UsageError if another shard in the folder was cut from another collection, or in another way."""
        for path in sorted(self.out.glob("run*.json")):
            if path == self.run:
                continue
            other = self._read_run(path)
            self._check_settings(_of_all_shards(other["settings"]), _of_all_shards(settings))
            if other.get("collection") != collection and not update:
                raise UsageError(
                    f"{self.out} holds another part of a run with other inputs, so some would be missing or counted twice; use "
                    "the same inputs for all shards, or give another --out"
                )

    def _check_settings(self, before: object, now: dict[str, object]) -> None:
        assert isinstance(before, dict)
        differing = [
            f"{name} was {before.get(name)}, now {now.get(name)}" for name in now if before.get(name) != now.get(name)
        ]
        if differing:
            raise UsageError(
                f"{self.out} holds a run with other settings ({'; '.join(differing)}); use the same settings, or give another --out"
            )

    def _changed(self, units: Sequence[Unit]) -> str:
        known: dict[str, str] = {}
        for path in self.units.glob("*/inputs.parquet"):
            table = pq.read_table(path, columns=["source"])
            known.update(dict.fromkeys(map(str, table.column("source").to_pylist()), path.parent.name))
        examples: list[str] = []
        done = {path.name for path in self.units.iterdir()}
        for unit in units:
            if unit.name not in done:
                examples += [printable(found.source) for found in unit.inputs if printable(found.source) in known]
        gone = set(known) - {printable(found.source) for unit in units for found in unit.inputs}
        said = ", ".join(sorted(examples or gone)[:3]) or "inputs were added"
        return (
            f"{self.out} holds a run with other inputs (changed, added or removed, for example {said}); "
            "add --update to read the changed inputs again, or give another --out"
        )

    def _inputs(self, units: Sequence[Unit]) -> _Inputs:
        """Read every unit's inputs table, once."""
        found, counts = _Inputs(), Counts()
        faults: dict[str, str] = {}  # by source; a duplicate comes after its original
        for unit in units:
            for row in self._table(unit, "inputs.parquet", INPUTS).to_pylist():
                source, error, original = row["source"], row["error"], row["duplicate_of"]
                counts.inputs += 1
                if original is not None:
                    counts.duplicates += 1
                    found.copies.setdefault(unit.name, []).append((source, original))
                    error = faults[original].replace(original, source) if original in faults else None
                if error is not None:
                    faults[source] = error
                    counts.errors += 1
                    found.errors.append({"source": source, "error": error})
                elif original is None:
                    counts.without_faces += row["faces"] == 0
        found.counts = counts
        return found

    def _repeated(
        self, units: Sequence[Unit], copies: dict[str, list[tuple[str, str]]]
    ) -> dict[str, list[dict[str, object]]]:
        """Return the rows of every file that has duplicates, by source."""
        rows: dict[str, list[dict[str, object]]] = {original: [] for each in copies.values() for _, original in each}
        for unit in units if rows else ():
            for row in self._faces(unit).to_pylist():
                if row["source"] in rows:
                    rows[row["source"]].append(row)
        return rows

    def _tables(
        self,
        units: Sequence[Unit],
        copies: dict[str, list[tuple[str, str]]],
        repeated: dict[str, list[dict[str, object]]],
    ) -> Iterator[pa.Table]:
        """Yield the faces of each unit, in order, with the rows of duplicates inserted."""
        for unit in units:
            faces = self._faces(unit)
            rows = [
                {**row, "source": source}
                for source, original in copies.get(unit.name, [])
                for row in repeated[original]
            ]
            yield pa.concat_tables([faces, pa.Table.from_pylist(rows, FACES)]) if rows else faces

    def _write_faces(self, tables: Iterable[pa.Table], folder: Path) -> tuple[list[str], int]:
        written, rows, in_part = [], 0, 0
        writer, draft = None, folder / f".part{self.suffix}.draft"
        waiting: list[pa.Table] = []
        try:
            for table in tables:
                waiting.append(table)
                if sum(len(t) for t in waiting) < ROWS_PER_GROUP:
                    continue
                writer = writer or pq.ParquetWriter(draft, FACES, compression="zstd")
                group = pa.concat_tables(waiting)
                writer.write_table(group)
                rows, in_part, waiting = rows + len(group), in_part + len(group), []
                if in_part >= ROWS_PER_PART:
                    written.append(self._close_part(writer, draft, folder, len(written)))
                    writer, in_part = None, 0
            if waiting or not written:
                writer = writer or pq.ParquetWriter(draft, FACES, compression="zstd")
                group = pa.concat_tables([FACES.empty_table(), *waiting])
                writer.write_table(group)
                rows += len(group)
            if writer is not None:
                written.append(self._close_part(writer, draft, folder, len(written)))
        finally:
            draft.unlink(missing_ok=True)
        return written, rows

    def _close_part(self, writer: pq.ParquetWriter, draft: Path, folder: Path, number: int) -> str:
        writer.close()
        name = f"part-{number:05d}{self.suffix}.parquet"
        os.replace(draft, folder / name)
        return f"{folder.name}/{name}"

    def _copy(self, form: Format, tables: Iterable[pa.Table]) -> str:
        """Write the faces table as CSV or JSON lines; in CSV, lists are JSON."""
        name = f"faces{self.suffix}.{form}"
        text = io.StringIO()
        writer = csv.DictWriter(text, FACES.names, lineterminator="\n")
        if form == "csv":
            writer.writeheader()
        with (self.out / f".{name}.draft").open("w", encoding="utf-8") as file:
            for table in tables:
                for row in table.to_pylist():
                    plain = {k: v.isoformat() if hasattr(v, "isoformat") else v for k, v in row.items()}
                    if form == "csv":
                        writer.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in plain.items()})
                    else:
                        text.write(json.dumps(plain) + "\n")
                file.write(text.getvalue())
                text.seek(0)
                text.truncate()
        os.replace(self.out / f".{name}.draft", self.out / name)
        return name

    def _write_table(self, table: pa.Table, name: str) -> None:
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        write_whole(self.out / name, buffer.getvalue().to_pybytes())

    def _faces(self, unit: Unit) -> pa.Table:
        return self._table(unit, "faces.parquet", FACES)

    def _table(self, unit: Unit, name: str, schema: pa.Schema) -> pa.Table:
        path = self.units / unit.name / name
        try:
            return pq.read_table(path, schema=schema)
        except (OSError, pa.ArrowException) as error:
            raise OutputError(
                f"{path}: expected a finished table, got an error: {str(error)[:200]}; delete the folder {path.parent} and start "
                "the same command again"
            ) from None
