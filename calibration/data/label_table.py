"""Labels in a CSV: columns `file` and `label` (or `age`), or `age_low` and `age_high` for bands; other text columns are groups.

`split` and `subject` are optional. A band is in whole years: 20 and 29 mean from the 20th birthday to the day before the 30th. An
empty `age_high` means no upper end, and equal ends mean an exact label.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import DataError
from .samples import Sample

NOT_GROUPS = {"file", "label", "age", "age_low", "age_high", "split", "subject", "near_duplicate_group"}
BAND = ("age_low", "age_high")


def read_table(path: Path) -> list[Sample]:
    """The rows of a table as samples; raises DataError naming the file, and the line if there is one."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read it as a CSV file in UTF-8 ({error}); correct it") from None
    columns, lines = csv_rows(path, text)
    label_column = next((c for c in ("label", "age") if c in columns), None)
    banded = label_column is None and set(BAND) <= set(columns)
    if "file" not in columns or (label_column is None and not banded):
        raise DataError(
            f"{path}: expected the columns file and label (or age, or age_low and age_high), got {', '.join(columns) or 'none'}; "
            "add them"
        )
    text_columns = _text_columns([row for _, row in lines], [c for c in columns if c not in NOT_GROUPS])
    samples: list[Sample] = []
    for number, row in lines:
        where = f"{path} line {number}"
        label = _number(row, label_column or BAND[0], where)
        high = _band_high(row, label, where) if banded else None
        groups = {c: row[c] for c in text_columns if row.get(c)}
        duplicate = row.get("near_duplicate_group") or None
        samples.append(
            Sample(
                row["file"],
                label,
                row.get("split") or None,
                row.get("subject") or None,
                duplicate,
                groups,
                band_high=high,
            )
        )
    return samples


def csv_rows(path: Path | str, text: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns, and each row with its line number; raises DataError for text that is not CSV or a row of another length."""
    reader = csv.reader(io.StringIO(text), strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    read = 0  # lines of the rows that are right: an open quote swallows all lines after it
    try:
        columns = next(reader, [])
        read = reader.line_num
        for cells in reader:
            if cells and len(cells) != len(columns):
                raise DataError(
                    f"{path} line {reader.line_num}: expected {len(columns)} cells, as in the first line, got {len(cells)}; "
                    "correct the row, and put a text with a comma in double quotes"
                )
            read = reader.line_num
            if cells:
                rows.append((reader.line_num, dict(zip(columns, cells, strict=True))))
    except csv.Error as error:
        raise DataError(
            f"{path} line {read + 1}: expected a row of CSV ({error}); look for a double quote without its partner, "
            "and correct it"
        ) from None
    return columns, rows


def _number(row: dict[str, str], column: str, where: str) -> float:
    try:
        number = float(row[column])
    except (TypeError, ValueError):
        raise DataError(f"{where}: expected a number in column {column}, got {row[column]!r}; correct it") from None
    if not math.isfinite(number):
        raise DataError(f"{where}: expected a finite number in column {column}, got {number}; correct it")
    return number


def _band_high(row: dict[str, str], low: float, where: str) -> float | None:
    """The upper end of a row's band, inf if it is empty; None if both ends are equal, which is an exact label."""
    high = _number(row, BAND[1], where) if row[BAND[1]] else math.inf
    if high < low:
        raise DataError(f"{where}: expected age_high to be at least age_low = {low:g}, got {high:g}; correct it")
    return None if high == low else high


def _text_columns(rows: Sequence[dict[str, str]], columns: Iterable[str]) -> list[str]:
    """The columns with text instead of numbers: each is a group to report by."""

    def is_number(value: str) -> bool:
        try:
            float(value)
        except ValueError:
            return False
        return True

    return [c for c in columns if any(row.get(c) and not is_number(row[c]) for row in rows)]
