"""Labelled pictures: `utkface:PATH`, `table:FILE.csv` and the other kinds in `readers.py`; each a folder or a .tar.

A data set is a list of samples and a way to read their pictures. If there is a CSV of the same base name beside PATH, it gives
label, split and groups; otherwise the labels come from the file names. `without_copies`, which training uses, keeps one of several
exact copies (same bytes) if they agree on the label, and none if they conflict.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import DataError, ModelError
from ...runtime.contract.fields import Fields
from ...runtime.contract.spec import CropSpec, TaskSpec
from .readers import KINDS, read_data
from .samples import SPLITS, Sample

DATA_FORMS = ", ".join(f"{kind}:PATH" for kind in KINDS if kind != "table") + " or table:FILE.csv"
LICENCES = {name: kind.licence for name, kind in KINDS.items()}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples, and the pictures they name."""

    name: str  # as the user gave it, for reports
    kind: str  # one of KINDS
    path: Path
    samples: tuple[Sample, ...]
    read_bytes: Callable[[str], bytes]
    conflicting: int = 0  # exact copies with conflicting labels, all dropped
    copies: int = 0  # exact copies with equal labels, all but one dropped
    cut: CropSpec | None = (
        None  # set if the pictures are already cropped, by this contract (numclip.research.pack_faces)
    )

    def read(self, sample: Sample) -> npt.NDArray[np.uint8]:
        """The sample's picture, [H, W, 3] uint8 BGR, rotated by its EXIF data; raises DataError naming the file."""
        data = self._bytes(sample)
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        except (cv2.error, MemoryError) as error:
            raise DataError(
                f"{self.name}: {sample.file} is too large to decode ({getattr(error, 'err', '') or 'no memory'}); make it smaller, or "
                "remove it or its row"
            ) from None
        if image is None:
            raise DataError(f"{self.name}: {sample.file} is not a readable image; remove it or its row")
        return np.asarray(image, np.uint8)

    def select(self, split: str | None) -> Dataset:
        """The samples of one split (`all`: every sample; None: the default split)."""
        if split is None:
            split = self.default_split
        if split == "all":
            return self
        chosen = tuple(s for s in self.samples if s.split == split)
        if not chosen:
            have = ", ".join(sorted({s.split for s in self.samples if s.split}))
            if not have:
                raise DataError(f"{self.name}: has no split {split!r} and no other splits; use the split all")
            raise DataError(f"{self.name}: has no split {split!r}, only {have}; choose one of them, or all")
        return replace(self, samples=chosen)

    @property
    def default_split(self) -> str:
        """The default split: `test` if any sample has a split, else `all`."""
        return "test" if any(s.split for s in self.samples) else "all"

    def split_or_all(self, split: str) -> str:
        """The split of this name if it has samples, else `all`."""
        return split if any(s.split == split for s in self.samples) else "all"

    @property
    def short_name(self) -> str:
        """The kind and the last part of the path, as model files record it."""
        return f"{self.kind}:{self.path.name}"

    def check_labels(self, task: TaskSpec) -> None:
        """Raise DataError naming the first sample whose label is outside the task's range."""
        for sample in self.samples:
            low, high = sample.ends
            if not (task.low <= low and (high <= task.high or math.isinf(high))):
                got = f"{low:g}" if low == high else f"{low:g} to {high:g}"
                raise DataError(
                    f"{self.name}: expected labels from {task.low:g} to {task.high:g} {task.unit}, got {got} for {sample.file}; "
                    "correct or remove it"
                )

    @property
    def banded(self) -> bool:
        """Whether any label is a band."""
        return any(s.band_high is not None for s in self.samples)

    def without_copies(self, of: Sequence[Sample] = ()) -> Dataset:
        """The data set without exact copies, whose number is in `conflicting` and `copies`.

        of: further samples, such as those of the other splits; pictures that are exact copies of theirs are dropped too.
        """
        by_hash: dict[str, list[Sample]] = defaultdict(list)
        for sample in self.samples:
            by_hash[self._sha256(sample)].append(sample)
        elsewhere: set[str] = set()
        for sample in of:
            with suppress(DataError):  # a picture that is not here cannot be compared
                elsewhere.add(self._sha256(sample))
        kept: list[Sample] = []
        conflicting = copies = 0
        for key, twins in by_hash.items():
            if len({s.ends for s in twins}) > 1:
                conflicting += len(twins)
            elif key in elsewhere:
                copies += len(twins)
            else:
                kept.append(twins[0])
                copies += len(twins) - 1
        return replace(self, samples=tuple(kept), conflicting=conflicting, copies=copies)

    def _sha256(self, sample: Sample) -> str:
        return hashlib.sha256(self._bytes(sample)).hexdigest()

    def _bytes(self, sample: Sample) -> bytes:
        try:
            return self.read_bytes(sample.file)
        except OSError as error:
            raise DataError(
                f"{self.name}: cannot read the picture {sample.file} ({error.strerror or error}); add it, or remove its "
                "row"
            ) from None


def open_data(text: str) -> Dataset:
    """Open a data set named `KIND:PATH`; raises DataError with what is missing and how to get it."""
    kind, _, path_text = text.partition(":")
    if kind not in KINDS or not path_text:
        raise DataError(f"expected DATA as {DATA_FORMS}, got {text!r}; start with the kind of data set")
    path = Path(os.path.expanduser(path_text))
    if not path.exists():
        raise DataError(f"{text}: expected a folder, .tar or .csv, but {path} does not exist; {KINDS[kind].get}")
    samples, read_bytes, ours = read_data(kind, path)
    if not samples:
        raise DataError(f"{text}: contains no labelled pictures; {KINDS[kind].get}")
    _check(samples, text, persons=ours)
    return Dataset(text, kind, path, tuple(samples), read_bytes, cut=_cut(path))


def _cut(path: Path) -> CropSpec | None:
    """The crop contract in NAME.crop.json beside NAME.tar or the folder NAME, if there is one; raises DataError if it is invalid."""
    file = path.with_name(f"{path.stem if path.suffix == '.tar' else path.name}.crop.json")
    if not file.is_file():
        return None
    try:
        return CropSpec.from_json(Fields.parse(file.read_text(), "pack them again"))
    except (OSError, ValueError, ModelError) as error:
        raise DataError(
            f"{file}: expected the description of packed face crops ({error}); write it again with: "
            "python -m numclip.research.pack_faces"
        ) from None


def _check(samples: Sequence[Sample], name: str, *, persons: bool) -> None:
    """Raise DataError for a file that is listed twice, unknown splits, and near duplicates or subjects that are in two splits.

    persons: whether subjects count; papers' own lists may put a person into two splits, which the protocols handle.
    """
    homes: dict[tuple[str, str], str] = {}
    seen: set[str] = set()
    for sample in samples:
        if sample.file in seen:
            raise DataError(f"{name}: expected each picture once, got {sample.file} twice; remove one of its rows")
        seen.add(sample.file)
        if sample.split is None:
            continue
        if sample.split not in SPLITS:
            raise DataError(
                f"{name}: expected a split among {', '.join(SPLITS)}, got {sample.split!r} for {sample.file}; correct it"
            )
        for kind, key in (("near-duplicate group", sample.near_duplicate_group), ("subject", sample.subject)):
            if kind == "subject" and not persons:
                continue
            if key and homes.setdefault((kind, key), sample.split) != sample.split:
                raise DataError(f"{name}: {kind} {key} is in two splits; put all its pictures into one split")
