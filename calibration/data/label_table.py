"""Labels in a CSV: columns `file`, `label` (or `age`), optionally `split`, `subject`; other text columns are groups."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError
from .samples import Sample

NOT_GROUPS = {"file", "label", "age", "split", "subject", "near_duplicate_group"}


def read_table(path: Path) -> list[Sample]:
    """The rows of a table as samples; raises DataError naming the file, and the line where there is one."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a CSV in UTF-8 ({error})") from None
    reader = csv.DictReader(io.StringIO(text))
    columns = list(reader.fieldnames or ())
    label_column = next((c for c in ("label", "age") if c in columns), None)
    if "file" not in columns or label_column is None:
        raise DataError(f"{path}: expected columns file and label (or age), got {', '.join(columns) or 'none'}")
    rows = list(reader)
    text_columns = _text_columns(rows, [c for c in columns if c not in NOT_GROUPS])
    samples: list[Sample] = []
    for number, row in enumerate(rows, start=2):
        try:
            label = float(row[label_column])
        except (TypeError, ValueError):
            raise DataError(
                f"{path} line {number}: expected a number as {label_column}, got {row[label_column]!r}"
            ) from None
        if not np.isfinite(label):
            raise DataError(f"{path} line {number}: expected a finite {label_column}, got {label}")
        groups = {c: row[c] for c in text_columns if row.get(c)}
        duplicate = row.get("near_duplicate_group") or None
        samples.append(
            Sample(row["file"], label, row.get("split") or None, row.get("subject") or None, duplicate, groups)
        )
    return samples


def _text_columns(rows: Sequence[dict[str, str]], columns: Iterable[str]) -> list[str]:
    """Those columns that hold text, not numbers: each is a group to report by."""

    def is_number(value: str) -> bool:
        try:
            float(value)
        except ValueError:
            return False
        return True

    return [c for c in columns if any(row.get(c) and not is_number(row[c]) for row in rows)]
