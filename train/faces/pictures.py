"""The labelled pictures that the face finder learns from: scenes with boxes, and portraits that hold one face."""

from __future__ import annotations

import csv
import tarfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import DataError

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Scene:
    """A photograph and the boxes that people drew on it."""

    picture: Image  # [H, W, 3] BGR
    boxes_xyxy: Floats  # [B, 4] px
    kinds: tuple[str, ...]  # B times: bare, masked or mask worn wrong


@dataclass(frozen=True, eq=False)
class Portrait:
    """A picture of one face, with the box and landmarks that the teacher sees in it."""

    picture: Image  # [H, W, 3] BGR
    box_xyxy: Floats  # [4] px
    landmarks: Floats  # [5, 2] px
    score: float


def read_scenes(path: Path, split: str) -> list[Scene]:
    """The photographs of one split of `scenes`: PATH.tar, PATH.csv and PATH_boxes.csv."""
    boxes: dict[str, list[tuple[list[float], str]]] = defaultdict(list)
    for row in _rows(path.with_name(f"{path.name}_boxes.csv")):
        boxes[row["file"]].append(([float(row[key]) for key in ("x0", "y0", "x1", "y1")], row["kind"]))
    files = [row["file"] for row in _rows(path.with_suffix(".csv")) if row["split"] == split]
    scenes: list[Scene] = []
    for name, picture in read_pictures(path, files):
        found = boxes.get(name, [])
        scenes.append(
            Scene(picture, np.array([b for b, _ in found], np.float32).reshape(-1, 4), tuple(kind for _, kind in found))
        )
    return scenes


def read_pictures(path: Path, files: list[str]) -> list[tuple[str, Image]]:
    """Name and [H, W, 3] BGR picture of each of these files of PATH.tar, in the tar's order."""
    wanted, found = set(files), list[tuple[str, Image]]()
    try:
        with tarfile.open(path.with_suffix(".tar")) as tar:
            for member in tar:
                name = member.name.split("/", 1)[-1]
                if name in wanted and (file := tar.extractfile(member)) is not None:
                    picture = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
                    if picture is None:
                        raise DataError(f"{path}.tar: {name} is no picture; fetch the file again")
                    found.append((name, np.asarray(picture, np.uint8)))
    except (OSError, tarfile.TarError, cv2.error) as error:
        raise DataError(f"{path}.tar: expected a tar of pictures ({error}); correct the path") from None
    return found


def portrait_files(path: Path, split: str) -> list[str]:
    """The files of one split of PATH.csv, or all of them where it has no splits."""
    return [row["file"] for row in _rows(path.with_suffix(".csv")) if row.get("split", split) == split]


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{path}: expected a table ({error.strerror}); correct the path") from None
