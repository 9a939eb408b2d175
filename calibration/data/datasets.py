"""Labelled pictures: `utkface:PATH`, `table:FILE.csv` and the other kinds of `readers.py`, a folder or a .tar each.

A data set is a list of samples and a way to read their pictures. The CSV of the same base name beside PATH, if there is
one, gives label, split and groups; without it the labels are read from the file names. Exact copies (same bytes) are
dropped: one is kept where they agree on the label, none where they conflict.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
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
    cut: CropSpec | None = None  # the pictures are faces cut by this crop already (numclip.research.pack_faces)

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
        """Only the samples of one split (`all`: every sample; None: the default split)."""
        if split is None:
            split = self.default_split
        if split == "all":
            return self
        chosen = tuple(s for s in self.samples if s.split == split)
        if not chosen:
            have = ", ".join(sorted({s.split for s in self.samples if s.split})) or "no splits"
            raise DataError(f"{self.name}: expected a split {split!r}, it has {have}; choose one of them")
        return replace(self, samples=chosen)

    @property
    def default_split(self) -> str:
        """What is measured when nobody names a split: `test` where any sample has a split, else `all`."""
        return "test" if any(s.split for s in self.samples) else "all"

    def split_or_all(self, split: str) -> str:
        """The split of this name where any sample is in it, else `all`."""
        return split if any(s.split == split for s in self.samples) else "all"

    @property
    def short_name(self) -> str:
        """The kind, and the last part of the path: what a model file says of it."""
        return f"{self.kind}:{self.path.name}"

    def check_labels(self, task: TaskSpec) -> None:
        """Raise DataError naming the first sample whose label no answer of the task can meet."""
        for sample in self.samples:
            low, high = sample.ends
            if not (task.low <= low and (high <= task.high or math.isinf(high))):
                got = f"{low:g}" if low == high else f"{low:g} to {high:g}"
                raise DataError(
                    f"{self.name}: expected labels of {task.low:g} to {task.high:g} {task.unit}, "
                    f"got {got} for {sample.file}; correct or remove it"
                )

    @property
    def banded(self) -> bool:
        """Whether any label is a band."""
        return any(s.band_high is not None for s in self.samples)

    def without_copies(self) -> Dataset:
        """The same data set with exact copies dropped, and their number in `conflicting` and `copies`."""
        by_hash: dict[str, list[Sample]] = defaultdict(list)
        for sample in self.samples:
            by_hash[hashlib.sha256(self.read_bytes(sample.file)).hexdigest()].append(sample)
        kept: list[Sample] = []
        conflicting = copies = 0
        for twins in by_hash.values():
            if len({s.ends for s in twins}) > 1:
                conflicting += len(twins)
            else:
                kept.append(twins[0])
                copies += len(twins) - 1
        return replace(self, samples=tuple(kept), conflicting=conflicting, copies=copies)


def open_data(text: str) -> Dataset:
    """Open a data set named `KIND:PATH`; raises DataError saying what is missing and where to put it."""
    kind, _, path_text = text.partition(":")
    if kind not in KINDS or not path_text:
        raise DataError(f"expected DATA like {DATA_FORMS}, got {text!r}; name the kind first")
    path = Path(path_text).expanduser()
    if not path.exists():
        raise DataError(f"{text}: expected a folder, .tar or .csv, found nothing at {path}; {KINDS[kind].get}")
    samples, read_bytes, ours = read_data(kind, path)
    if not samples:
        raise DataError(f"{text}: expected labelled pictures, found none; {KINDS[kind].get}")
    _check(samples, text, persons=ours)
    return Dataset(text, kind, path, tuple(samples), read_bytes, cut=_cut(path))


def _cut(path: Path) -> CropSpec | None:
    """The crop in NAME.crop.json beside NAME.tar or the folder NAME, if there is one; raises DataError for a wrong one."""
    file = path.with_name(f"{path.stem if path.suffix == '.tar' else path.name}.crop.json")
    if not file.is_file():
        return None
    try:
        return CropSpec.from_json(Fields.parse(file.read_text(), "pack them again"))
    except (OSError, ValueError, ModelError) as error:
        raise DataError(f"{file}: expected the crop of packed faces, {error}") from None


def _check(samples: Sequence[Sample], name: str, *, persons: bool) -> None:
    """Refuse unknown splits, and near-duplicates or subjects that stand in two splits.

    persons: whether subjects count; papers' own lists may leak them, and the protocols deal with that.
    """
    homes: dict[tuple[str, str], str] = {}
    for sample in samples:
        if sample.split is None:
            continue
        if sample.split not in SPLITS:
            raise DataError(f"{name}: expected split {', '.join(SPLITS)}, got {sample.split!r} for {sample.file}")
        for kind, key in (("near-duplicate group", sample.near_duplicate_group), ("subject", sample.subject)):
            if kind == "subject" and not persons:
                continue
            if key and homes.setdefault((kind, key), sample.split) != sample.split:
                raise DataError(f"{name}: {kind} {key} stands in two splits; put all of it into one")
