"""List files as data sets' owners and papers publish them: one picture per line, its path followed by labels.

A line is `path label [label ...]`, separated by spaces, tabs or commas; columns may come before the path, and the path may have spaces
in it. The paths are those of other machines, so a picture is found by the end of its path. If any line names a folder that is here, the
folders of all lines must be those of their pictures: files in different folders often have the same name. The name of a list says what it lists: train, val or test, a fold, a category.
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


@dataclass(frozen=True)
class _Found:
    """The picture of a line."""

    picture: str
    same_folder: bool | None  # None: the line names no folder, or the picture is in none


def read_lists(files: PictureFiles) -> tuple[list[Listed], int]:
    """Every line whose picture exists, and the number of lines whose picture does not, or cannot be told from others."""
    ends = _by_end(files.pictures)
    lines: list[tuple[Listed, bool | None]] = []
    missing = 0
    for name in files.lists:
        stem = PurePosixPath(name).stem.lower()
        split, fold, category = _meaning(stem)
        for paths, labels in _lines(files.text(name)):
            found = [match for path in paths if (match := _find(path, ends)) is not None]
            if found:
                best = next((match for match in found if match.same_folder), found[0])
                lines.append((Listed(best.picture, labels, split, fold, category), best.same_folder))
            else:
                missing += 1
    folders_are_here = any(same for _, same in lines)
    listed = [line for line, same in lines if not (folders_are_here and same is False)]
    return listed, missing + len(lines) - len(listed)


def _lines(text: str) -> Iterator[tuple[list[str], tuple[str, ...]]]:
    """For every line with a picture: what may be its path, longest first, and the words after it.

    The path ends with the first word that has a picture's suffix. It starts with any word before that, but not after a word with a slash.
    """
    for line in text.splitlines():
        words = list(re.finditer(r"[^,\s]+", line.replace("\\", "/")))
        at = next((i for i, word in enumerate(words) if word[0].lower().endswith(IMAGE_SUFFIXES)), None)
        if at is not None:
            first_slash = next((i for i in range(at) if "/" in words[i][0]), at)
            end = words[at].end()
            paths = [words[at].string[words[i].start() : end] for i in range(first_slash + 1)]
            yield paths, tuple(word[0] for word in words[at + 1 :])


def _meaning(stem: str) -> tuple[str | None, int | None, str]:
    """`setting_a_fold2_test` is (test, 2, setting_a), `simplified_adience_4` (None, 4, simplified_adience).

    Beside train, val or test only `fold` makes a number a fold: in `morph_train_80` it is a share.
    """
    words = [word for word in re.split(r"[_\-\s]+", stem) if word]
    split = next((name for name in SPLIT_NAMES if name in words), None)
    rest = [word for word in words if word != split]
    fold: int | None = None
    for i, word in enumerate(rest):
        number = re.fullmatch(r"(?:fold)?(\d{1,2})", word)
        if number and (
            word.startswith("fold") or (i > 0 and rest[i - 1] == "fold") or (split is None and i == len(rest) - 1)
        ):
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


def _find(path: str, ends: dict[str, list[str]]) -> _Found | None:
    """The picture whose path shares the longest end with the listed one; None if there is none, or if several share as much."""
    listed = [part for part in PurePosixPath(path.lower()).parts if part != ".."]
    here = ends.get(listed[-1], [])

    def shared(name: str) -> int:
        mine = PurePosixPath(name.lower()).parts
        return next(
            (i for i, (a, b) in enumerate(zip(mine[::-1], listed[::-1])) if a != b), min(len(mine), len(listed))
        )

    longest = max(map(shared, here), default=0)
    best = [name for name in here if shared(name) == longest]
    if len(best) != 1:
        return None
    compared = len(listed) > 1 and "/" in best[0]
    return _Found(best[0], longest > 1 if compared else None)
