"""A reader for each data set in the layout that its owners distribute, with its source and its terms.

Labels are in the unit of the data set's task. Lists that count grades or decades from 1 are shifted by one.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from ...errors import DataError
from ...runtime.contract.licences import Licence
from .label_table import csv_rows, read_table
from .owner_lists import Listed, read_lists
from .picture_files import open_pictures
from .samples import Sample

_log = logging.getLogger(__name__)

ReadBytes = Callable[[str], bytes]
DECADES = ("1930s", "1940s", "1950s", "1960s", "1970s")
# Adience writes its eight groups in several ways; single ages and the ranges between the groups are left out.
ADIENCE_GROUPS = {
    "(0, 2)": 0,
    "(4, 6)": 1,
    "(8, 12)": 2,
    "(8, 13)": 2,
    "(15, 20)": 3,
    "(25, 32)": 4,
    "(27, 32)": 4,
    "(38, 42)": 5,
    "(38, 43)": 5,
    "(38, 48)": 5,
    "(48, 53)": 6,
    "(60, 100)": 7,
}


@dataclass(frozen=True)
class Kind:
    """How to read one data set, where to get it, and its terms."""

    read: Callable[[Path], tuple[list[Sample], ReadBytes]]
    get: str  # where to get it and what to give as PATH; it follows "…; " in an error message
    licence: Licence  # LicenseRef-none: no licence text at all


def read_data(kind: str, path: Path) -> tuple[list[Sample], ReadBytes, bool]:
    """Samples, a way to read them, and whether the labels came from the CSV of the same name beside `path`."""
    table = path.with_suffix(".csv") if path.suffix == ".tar" else path.parent / f"{path.name}.csv"
    if kind != "table" and table.is_file():
        return read_table(table), open_pictures(path).read, True
    return *KINDS[kind].read(path), kind == "table"


def _from_names(sample_of: Callable[[str], Sample | None], path: Path) -> tuple[list[Sample], ReadBytes]:
    """A folder or .tar with the labels in the file names."""
    files = open_pictures(path)
    return [s for s in map(sample_of, files.pictures) if s is not None], files.read


def _from_lists(
    sample_of: Callable[[Listed], Sample | None], alone: Callable[[str], Sample | None] | None, path: Path
) -> tuple[list[Sample], ReadBytes]:
    """A folder or .tar with list files, which name pictures by the end of their path. alone: without lists."""
    files = open_pictures(path)
    listed, missing = read_lists(files)
    if listed:
        _warn(path, missing)
    samples = [s for s in map(sample_of, listed) if s is not None]
    if not samples and alone is not None:
        return [s for s in map(alone, files.pictures) if s is not None], files.read
    return _merged(samples, path), files.read


def _warn(path: Path, missing: int) -> None:
    if missing:
        _log.warning(
            "warning: %s: %d lines of its lists name pictures that do not exist, or more than one", path, missing
        )


def _merged(samples: list[Sample], path: Path) -> list[Sample]:
    """One sample per picture, with its split or, for lists of folds, the fold that tests on it.

    Papers with two lists call the second one val or test; here it is test. A list without a split or a fold only gives labels.
    """
    if any(s.fold is not None for s in samples):
        samples = [replace(s, split=None, fold=s.fold if s.split in (None, "test") else None) for s in samples]
    elif {s.split for s in samples if s.split} == {"train", "val"}:
        samples = [replace(s, split="test") if s.split == "val" else s for s in samples]
    by_file: dict[str, Sample] = {}
    for sample in samples:
        home, known = (sample.split, sample.fold), by_file.get(sample.file)
        if known is None or (known.split, known.fold) == (None, None):
            by_file[sample.file] = sample
        elif home not in ((None, None), (known.split, known.fold)):
            raise DataError(
                f"{path}: {sample.file} is in two lists; keep only the lists of one protocol in this folder"
            )
    return list(by_file.values())


def _utkface(name: str) -> Sample | None:
    """`[age]_[gender]_[race]_[date].jpg`; names without a field give no label."""
    parts = PurePosixPath(name).name.split("_")
    return Sample(name, float(parts[0])) if len(parts) >= 4 and parts[0].isdecimal() else None


def _aaf(name: str) -> Sample | None:
    """`[number]A[age].jpg`; every number is a different person."""
    found = re.fullmatch(r"(\d+)A(\d+)", PurePosixPath(name).stem)
    return Sample(name, float(found[2])) if found else None


def _fgnet(name: str) -> Sample | None:
    """`001A02.JPG`, `001A43a.JPG`: person 001 at ages 2 and 43."""
    found = re.fullmatch(r"(\d{3})A(\d{1,2})[a-z]?", PurePosixPath(name).stem, re.IGNORECASE)
    return Sample(name, float(found[2]), subject=found[1]) if found else None


def _morph(name: str) -> Sample | None:
    """`009055_1M54.JPG`: person 009055, picture 1, male, 54."""
    found = re.fullmatch(r"(\d+)_(\d+)([MF])(\d{2})", PurePosixPath(name).stem, re.IGNORECASE)
    if found is None:
        return None
    gender = {"m": "male", "f": "female"}[found[3].lower()]
    return Sample(name, float(found[4]), subject=found[1], groups={"gender": gender})


def _morph_listed(line: Listed) -> Sample | None:
    """Age and person come from the name, split and fold from the list."""
    sample = _morph(line.picture)
    return None if sample is None else replace(sample, split=line.split, fold=line.fold)


def _hci(name: str) -> Sample | None:
    """A folder or name that starts with the decade: `1950s/a.jpg`, `1950s_decade_0a1b.jpg`."""
    for part in reversed(PurePosixPath(name).parts):
        if part[:5] in DECADES:
            return Sample(name, float(DECADES.index(part[:5])))
    return None


def _hci_listed(line: Listed) -> Sample | None:
    """`path 1950s`, or `path 3` counted from 1."""
    label = line.labels[0] if line.labels else ""
    place = DECADES.index(label) if label in DECADES else _middle(line.labels)
    return None if place is None else Sample(line.picture, float(place), line.split, fold=line.fold)


def _aesthetics_listed(line: Listed) -> Sample | None:
    """`id.png 3.0` counted from 1, in `[category]_[train or test].txt`."""
    grade = _middle(line.labels)
    groups = {"category": line.category} if line.category else {}
    return None if grade is None else Sample(line.picture, grade, line.split, groups=groups, fold=line.fold)


def _middle(labels: tuple[str, ...]) -> float | None:
    """The median of the labels of several annotators, counted from 0; None if they are not numbers."""
    try:
        numbers = sorted(float(label) for label in labels)
    except ValueError:
        return None
    return numbers[len(numbers) // 2] - 1 if numbers else None


def _adience_listed(line: Listed) -> Sample | None:
    """`[person]/landmark_aligned_face.1.2.jpg 4`: group 4 of 0 to 7, in a list for each fold."""
    if not line.labels or not line.labels[0].isdecimal() or not 0 <= int(line.labels[0]) <= 7:
        return None
    person = PurePosixPath(line.picture).parent.name
    return Sample(line.picture, float(line.labels[0]), subject=person, fold=line.fold)


def _adience(path: Path) -> tuple[list[Sample], ReadBytes]:
    """The owners' `fold_[0-4]_data.txt` beside `aligned/` or `faces/`, else lists of `path group` for each fold."""
    files = open_pictures(path)
    owners = [n for n in files.lists if re.fullmatch(r"fold_\d_data\.txt", PurePosixPath(n).name)]
    if not owners:
        return _from_lists(_adience_listed, None, path)
    ends = {"/".join(PurePosixPath(n).parts[-2:]): n for n in files.pictures}
    samples: list[Sample] = []
    missing = 0
    for name in owners:
        fold = int(PurePosixPath(name).name[5])
        head, *rows = (line.split("\t") for line in files.text(name).splitlines() if line.strip())
        for row in (dict(zip(head, line)) for line in rows):
            group, tail = ADIENCE_GROUPS.get(row["age"]), f"{row['face_id']}.{row['original_image']}"
            if group is None:
                continue
            cuts = (f"{row['user_id']}/{cut}.{tail}" for cut in ("landmark_aligned_face", "coarse_tilt_aligned_face"))
            picture = next((ends[cut] for cut in cuts if cut in ends), None)
            if picture is None:
                missing += 1
                continue
            gender = {"m": {"gender": "male"}, "f": {"gender": "female"}}.get(row["gender"], {})
            samples.append(Sample(picture, float(group), subject=row["user_id"], groups=gender, fold=fold))
    _warn(path, missing)
    return samples, files.read


def _fairface(path: Path) -> tuple[list[Sample], ReadBytes]:
    """The owners' `fairface_label_train.csv` and `_val.csv` beside the pictures; val is used as test, because the owners keep their
    test labels.
    """
    files = open_pictures(path)
    ends = {"/".join(PurePosixPath(n).parts[-2:]): n for n in files.pictures}
    samples: list[Sample] = []
    missing = 0
    for name in files.lists:
        if re.fullmatch(r"fairface_label_(train|val)\.csv", PurePosixPath(name).name) is None:
            continue
        split = "train" if "train" in PurePosixPath(name).name else "test"
        columns, rows = csv_rows(name, files.text(name))
        if absent := {"file", "age", "gender", "race"} - set(columns):
            raise DataError(f"{path}: {name} has no column {min(absent)}; get the owners' list again")
        for _, row in rows:
            picture, band = ends.get(row["file"]), _fairface_band(row["age"])
            missing += picture is None
            if picture is not None and band is not None:
                groups = {"gender": row["gender"].lower(), "ethnicity": row["race"].replace("_", " ").lower()}
                samples.append(Sample(picture, band[0], split, groups=groups, band_high=band[1]))
    _warn(path, missing)
    return samples, files.read


def _fairface_band(text: str) -> tuple[float, float] | None:
    """`20-29`, or `more than 70`, which has no upper end."""
    if text == "more than 70":
        return 70.0, math.inf
    found = re.fullmatch(r"(\d+)-(\d+)", text)
    return (float(found[1]), float(found[2])) if found else None


def _table(path: Path) -> tuple[list[Sample], ReadBytes]:
    return read_table(path), lambda name: (path.parent / name).read_bytes()


RESEARCH = "non-commercial research use only"
KINDS = {
    "utkface": Kind(
        partial(_from_names, _utkface),
        "get the aligned and cropped chips at susanqq.github.io/UTKFace and give their folder or .tar",
        Licence("LicenseRef-UTKFace-research", f"UTKFace: {RESEARCH}"),
    ),
    "aaf": Kind(
        partial(_from_names, _aaf),
        "get the original images at github.com/JingchunCheng/All-Age-Faces-Dataset and give their folder or .tar",
        Licence("LicenseRef-none", "All-Age-Faces: no licence text, asks to be cited; taken as research use"),
    ),
    "fairface": Kind(
        _fairface,
        "get the pictures at github.com/joojs/fairface and give the folder with train/, val/ and the two "
        "fairface_label CSVs in it, or a .tar",
        Licence(
            "CC-BY-4.0",
            "FairFace: credit Karkkainen and Joo, WACV 2021; its pictures are from YFCC-100M, each under its own "
            "Creative Commons licence, which is not known one by one",
        ),
    ),
    "fgnet": Kind(
        partial(_from_names, _fgnet),
        "get FG-NET at yanweifu.github.io/FG_NET_data and give its folder, with images/001A02.JPG in it, or a .tar",
        Licence("LicenseRef-none", "FG-NET: handed out for research; no licence text"),
    ),
    "morph2": Kind(
        partial(_from_lists, _morph_listed, _morph),
        "ask for MORPH II at uncw.edu/oic/tech/morph.html and give the folder of its albums (009055_1M54.JPG), with the "
        "lists of one protocol in it, if any",
        Licence(
            "LicenseRef-MORPH-II-agreement", "MORPH II: by agreement with its owners, academic or commercial apart"
        ),
    ),
    "adience": Kind(
        _adience,
        "ask for Adience at talhassner.github.io/home/projects/Adience and give the folder with aligned/ and "
        "fold_0_data.txt to fold_4_data.txt",
        Licence(
            "LicenseRef-Adience-research", f"Adience: pictures under their own Creative Commons licences, {RESEARCH}"
        ),
    ),
    "hci": Kind(
        partial(_from_lists, _hci_listed, _hci),
        "get the dated historical colour images at graphics.cs.cmu.edu/projects/historicalColor and give the folder "
        "with 1930s/ to 1970s/, or with lists of `path 1930s`",
        Licence("LicenseRef-none", "HCI: pictures of their photographers, handed out for research; no licence text"),
    ),
    "aesthetics": Kind(
        partial(_from_lists, _aesthetics_listed, None),
        "get the pictures of the CrowdBeauty list (arXiv 1505.03358) from Flickr and give their folder, with "
        "[category]_train.txt and [category]_test.txt (`id.png 3.0`) in it",
        Licence(
            "LicenseRef-CrowdBeauty-research",
            f"CrowdBeauty: Flickr pictures under their own Creative Commons licences, {RESEARCH}",
        ),
    ),
    "table": Kind(
        _table,
        "give a CSV with the columns file and label, or file, age_low and age_high",
        Licence("LicenseRef-unknown", "a table of the user's own: licence unknown here"),
    ),
}
