"""Labelled faces: readers for `utkface:PATH`, `aaf:PATH` and `table:FILE.csv`, a folder or a .tar each.

A data set is a list of samples and a way to read their pictures. The CSV of the same base name beside PATH, if there is
one, gives label, split and groups; without it the labels are read from the file names. Exact copies (same bytes) are
dropped: one is kept where they agree on the label, none where they conflict.
"""

from __future__ import annotations

import csv
import hashlib
import io
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import DataError

SPLITS = ("train", "val", "calibration", "test")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
NOT_GROUPS = {"file", "label", "age", "split", "subject", "near_duplicate_group"}


@dataclass(frozen=True)
class Sample:
    """One labelled picture."""

    file: str  # relative to the data set's folder
    label: float  # in the task's unit
    split: str | None = None
    subject: str | None = None
    near_duplicate_group: str | None = None
    groups: dict[str, str] = field(default_factory=lambda: {})
    fold: int | None = None  # of the data set's own folds


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples, and the pictures they name."""

    name: str  # as the user gave it, for reports
    kind: str  # utkface, aaf, table
    path: Path
    samples: tuple[Sample, ...]
    read_bytes: Callable[[str], bytes]
    conflicting: int = 0  # exact copies with conflicting labels, all dropped
    copies: int = 0  # exact copies with equal labels, all but one dropped

    def read(self, sample: Sample) -> npt.NDArray[np.uint8]:
        """The sample's picture, [H, W, 3] uint8 BGR, turned as its EXIF says; raises DataError naming the file."""
        try:
            data = self.read_bytes(sample.file)
        except OSError as error:
            raise DataError(f"{self.name}: expected the picture {sample.file}, {error.strerror or error}") from None
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if image is None:
            raise DataError(f"{self.name}: expected a picture, {sample.file} is none; remove it or its row")
        return np.asarray(image, np.uint8)

    def select(self, split: str | None) -> Dataset:
        """Only the samples of one split (`all`: every sample; None: `test` where there are splits, else every sample)."""
        if split is None:
            split = "test" if any(s.split for s in self.samples) else "all"
        if split == "all":
            return self
        chosen = tuple(s for s in self.samples if s.split == split)
        if not chosen:
            have = ", ".join(sorted({s.split for s in self.samples if s.split})) or "no splits"
            raise DataError(f"{self.name}: expected a split {split!r}, it has {have}; choose one of them")
        return replace(self, samples=chosen)

    def without_copies(self) -> Dataset:
        """The same data set with exact copies dropped, and their number in `conflicting` and `copies`."""
        by_hash: dict[str, list[Sample]] = defaultdict(list)
        for sample in self.samples:
            by_hash[hashlib.sha256(self.read_bytes(sample.file)).hexdigest()].append(sample)
        kept: list[Sample] = []
        conflicting = copies = 0
        for twins in by_hash.values():
            if len({s.label for s in twins}) > 1:
                conflicting += len(twins)
            else:
                kept.append(twins[0])
                copies += len(twins) - 1
        return replace(self, samples=tuple(kept), conflicting=conflicting, copies=copies)


def open_data(text: str) -> Dataset:
    """Open a data set named `KIND:PATH`; raises DataError saying what is missing and where to put it."""
    kind, _, path_text = text.partition(":")
    if kind not in READERS or not path_text:
        raise DataError(
            f"expected DATA like {', '.join(f'{k}:PATH' for k in READERS)}, got {text!r}; name the kind first"
        )
    path = Path(path_text).expanduser()
    if not path.exists():
        raise DataError(f"{text}: expected a folder, .tar or .csv, found nothing at {path}; correct the path")
    samples, read_bytes = READERS[kind](path)
    if not samples:
        raise DataError(f"{text}: expected labelled pictures, found none; {HINTS[kind]}")
    _check(samples, text)
    return Dataset(text, kind, path, tuple(samples), read_bytes)


Reader = Callable[[Path], tuple[list[Sample], Callable[[str], bytes]]]


def _check(samples: Sequence[Sample], name: str) -> None:
    """Refuse unknown splits, and near-duplicates or subjects that stand in two splits."""
    homes: dict[tuple[str, str], str] = {}
    for sample in samples:
        if sample.split is None:
            continue
        if sample.split not in SPLITS:
            raise DataError(f"{name}: expected split {', '.join(SPLITS)}, got {sample.split!r} for {sample.file}")
        for kind, key in (("near-duplicate group", sample.near_duplicate_group), ("subject", sample.subject)):
            if key and homes.setdefault((kind, key), sample.split) != sample.split:
                raise DataError(f"{name}: {kind} {key} stands in two splits; put all of it into one")


def _open_pictures(path: Path) -> tuple[list[str], Callable[[str], bytes]]:
    """The pictures of a folder or .tar: their names (one common top folder of a .tar removed) and a way to read them."""
    if path.is_dir():
        names = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        return names, lambda name: (path / name).read_bytes()
    where: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isfile() and member.name.lower().endswith(IMAGE_SUFFIXES):
                    name = member.name.partition("/")[2] or member.name
                    where[name] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise DataError(f"{path}: expected a folder or an uncompressed .tar, got neither ({error})") from None

    def read(name: str) -> bytes:
        if name not in where:
            raise FileNotFoundError(2, "not in the archive", name)
        offset, size = where[name]
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    return sorted(where), read


def _read_table(path: Path) -> list[Sample]:
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


def _named(label_of: Callable[[str], float | None]) -> Reader:
    """A reader for a folder or .tar whose labels are in the CSV beside it, else in the file names."""

    def read(path: Path) -> tuple[list[Sample], Callable[[str], bytes]]:
        names, read_bytes = _open_pictures(path)
        table = path.with_suffix(".csv") if path.suffix == ".tar" else path.parent / f"{path.name}.csv"
        if table.is_file():
            return _read_table(table), read_bytes
        labelled = ((name, label_of(Path(name).name)) for name in names)
        return [Sample(name, label) for name, label in labelled if label is not None], read_bytes

    return read


def _utkface_label(name: str) -> float | None:
    """`[age]_[gender]_[race]_[date].jpg`; names that lack a field have no label."""
    parts = name.split("_")
    return float(parts[0]) if len(parts) >= 4 and parts[0].isdigit() else None


def _aaf_label(name: str) -> float | None:
    """`[number]A[age].jpg`."""
    _, mark, age = Path(name).stem.partition("A")
    return float(age) if mark and age.isdigit() else None


def _table(path: Path) -> tuple[list[Sample], Callable[[str], bytes]]:
    return _read_table(path), lambda name: (path.parent / name).read_bytes()


READERS: dict[str, Reader] = {"utkface": _named(_utkface_label), "aaf": _named(_aaf_label), "table": _table}
DATA_FORMS = ", ".join(f"{kind}:PATH" for kind in READERS if kind != "table") + " or table:FILE.csv"
HINTS = {
    "utkface": "get the aligned and cropped UTKFace chips and give their folder or .tar",
    "aaf": "get the All-Age-Faces original images and give their folder or .tar",
    "table": "give a CSV with the columns file and label",
}
LICENCES = {
    "utkface": "UTKFace: non-commercial research use only",
    "aaf": "All-Age-Faces: no licence text, asks to be cited; taken as research use",
    "table": "a table of the user's own: licence unknown here",
}
