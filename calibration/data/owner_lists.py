"""List files as data sets' owners and papers publish them: one picture per line, its path followed by labels.

A line is `path label [label ...]`, separated by spaces, tabs or commas. The paths are those of other machines, so a picture is
found by the end of its path. The name of a list says what it lists: train, val or test, a fold, a category.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from .picture_files import IMAGE_SUFFIXES, PictureFiles

SPLIT_NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class Listed:
    """One line of a list."""

    picture: str  # its name in this folder
    labels: tuple[str, ...]  # as written
    split: str | None  # train, val or test, from the list's name
    fold: int | None
    category: str  # the list's name without split and fold


def read_lists(files: PictureFiles) -> tuple[list[Listed], int]:
    """Every line whose picture exists, and the number of lines whose picture does not."""
    ends = _by_end(files.pictures)
    found: list[Listed] = []
    missing = 0
    for name in files.lists:
        stem = PurePosixPath(name).stem.lower()
        split, fold, category = _meaning(stem)
        for path, labels in _lines(files.text(name)):
            picture = _find(path, ends)
            if picture is None:
                missing += 1
            else:
                found.append(Listed(picture, labels, split, fold, category))
    return found, missing


def _lines(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The picture's path and the words after it, for every line with a picture."""
    for line in text.splitlines():
        words = [w for w in re.split(r"[,\s]+", line.strip()) if w]
        at = next((i for i, word in enumerate(words) if word.lower().endswith(IMAGE_SUFFIXES)), None)
        if at is not None:
            yield words[at].replace("\\", "/"), tuple(words[at + 1 :])


def _meaning(stem: str) -> tuple[str | None, int | None, str]:
    """`setting_a_fold2_test` is (test, 2, setting_a), `simplified_adience_4` (None, 4, simplified_adience)."""
    words = [word for word in re.split(r"[_\-\s]+", stem) if word]
    split = next((name for name in SPLIT_NAMES if name in words), None)
    rest = [word for word in words if word != split]
    fold: int | None = None
    for i, word in enumerate(rest):
        number = re.fullmatch(r"(?:fold)?(\d{1,2})", word)
        if number and (word.startswith("fold") or i == len(rest) - 1 or rest[i - 1] == "fold"):
            fold = int(number[1])
            rest = [w for j, w in enumerate(rest) if j != i and w != "fold"]
            break
    return split, fold, "_".join(rest)


def _by_end(pictures: tuple[str, ...]) -> dict[str, list[str]]:
    """The pictures by their base name in lower case."""
    ends: dict[str, list[str]] = defaultdict(list)
    for name in pictures:
        ends[PurePosixPath(name).name.lower()].append(name)
    return ends


def _find(path: str, ends: dict[str, list[str]]) -> str | None:
    """The picture whose path shares the longest end with the listed one."""
    listed = PurePosixPath(path.lower()).parts
    here = ends.get(listed[-1], [])

    def shared(name: str) -> int:
        mine = PurePosixPath(name.lower()).parts
        return next(
            (i for i, (a, b) in enumerate(zip(mine[::-1], listed[::-1])) if a != b), min(len(mine), len(listed))
        )

    return max(here, key=shared) if here else None
