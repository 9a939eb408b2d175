"""Faces that are cropped once by the crop contract and kept on disk, so that later epochs and evaluations decode nothing.

The files are in the cache folder (`runtime/places.py`). Their key covers everything that the pixels depend on: the data set's
files, the crop contract and the detector.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ...errors import DataError
from ...runtime.contract.model_file import FINDER
from ...runtime.contract.spec import CropSpec
from ...runtime.faces.crops import crop_faces
from ...runtime.faces.detect import WHOLE, Detections, Detector
from ...runtime.faces.opening import HELP, identity, open_detector
from ...runtime.places import cache_dir
from .datasets import Dataset, Sample

CACHE_VERSION = 1  # increase it when a change of the detection or crop code changes pixels
SKIP_WARNING_SHARE = 0.02
DEFAULT_DETECTOR = FINDER
DETECTOR_HELP = f"{HELP}; haar misses about half of the faces in tightly cropped pictures"

_log = logging.getLogger(__name__)


class Rows:
    """Rows of an array on disk: crops[i] and crops[i:j] read only the rows that they name."""

    def __init__(self, rows: Crops, places: npt.NDArray[np.intp]) -> None:
        self.rows, self.places = rows, places
        self.shape = (len(places), *rows.shape[1:])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, at: int | slice | npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
        return np.asarray(self.rows[self.places[at]])


Crops: TypeAlias = npt.NDArray[np.uint8] | Rows  # [N, S, S, 3] RGB


@dataclass(frozen=True, eq=False)
class FaceCrops:
    """The faces of a data set, the largest in each picture, in the data set's order."""

    crops: Crops  # uint8 [N, S, S, 3] RGB, memory-mapped
    samples: tuple[Sample, ...]  # N
    skipped: tuple[str, ...]  # files without a detected face
    face_px: npt.NDArray[np.float32]  # [N] longer side of the detected box in the picture

    @property
    def labels(self) -> npt.NDArray[np.float64]:
        """The labels [N] in the task's unit; raises DataError if one is a band."""
        banded = next((s for s in self.samples if s.band_high is not None), None)
        if banded is not None:
            low, high = banded.ends
            raise DataError(
                f"expected exact labels, but {banded.file} has the band {low:g} to {high:g}; use data with exact labels"
            )
        return np.array([s.label for s in self.samples], np.float64)

    @property
    def ends(self) -> npt.NDArray[np.float64]:
        """The lowest and highest possible label [N, 2], in the task's unit: equal if exact, inf for an open band."""
        return np.array([s.ends for s in self.samples], np.float64).reshape(-1, 2)

    def take(self, samples: Sequence[Sample]) -> FaceCrops:
        """The faces of these samples only, found by file, in this order, with the labels and splits of the samples."""
        wanted = {s.file: s for s in samples}
        places = [i for i, s in enumerate(self.samples) if s.file in wanted]
        chosen = tuple(wanted[self.samples[i].file] for i in places)
        skipped = tuple(name for name in self.skipped if name in wanted)
        crops = self.crops if len(places) == len(self.samples) else Rows(self.crops, np.array(places, np.intp))
        return FaceCrops(crops, chosen, skipped, self.face_px[places])


class CutFaces:
    """The "detector" of pictures that are already cropped faces: the landmarks are where the crop put them."""

    def __init__(self, crop: CropSpec) -> None:
        self.name = "cut " + hashlib.sha256(json.dumps(asdict(crop)).encode()).hexdigest()[:16]
        self.landmarks = np.array(crop.landmarks, np.float32)[None] * crop.side  # [1, 5, 2]
        self.box_xyxy = np.array([[0, 0, crop.side, crop.side]], np.float32)

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """The one face of a picture [S, S, 3]."""
        return Detections(self.box_xyxy, np.ones(1, np.float32), self.landmarks)


def face_crops(dataset: Dataset, crop: CropSpec, detector_name: str = DEFAULT_DETECTOR) -> FaceCrops:
    """Detect and crop the largest face of every sample, or take it from the cache.

    Raises DataError if no face is found at all; warns if more than 2 % of the pictures have none.
    """
    if dataset.cut is not None and WHOLE not in crop.box_rules:
        detector: Detector = CutFaces(dataset.cut)
    else:
        detector = open_detector(WHOLE if WHOLE in crop.box_rules else detector_name)
    folder = cache_dir() / "crops" / _key(dataset, crop, identity(detector))
    if not (folder / "index.json").is_file():
        _fill(folder, dataset, crop, detector)
    index = _Index(**json.loads((folder / "index.json").read_text()))
    by_file = {s.file: s for s in dataset.samples}
    samples = tuple(by_file[name] for name in index.files)
    if not samples:
        raise DataError(
            f"{dataset.name}: {detector.name} found no face in {len(dataset.samples)} pictures; use other pictures, "
            "or another --detector"
        )
    if len(index.skipped) > SKIP_WARNING_SHARE * len(dataset.samples):
        _log.warning(
            "warning: %s found no face in %d of %d pictures of %s",
            *(detector.name, len(index.skipped), len(dataset.samples), dataset.name),
        )
    crops: npt.NDArray[np.uint8] = np.load(folder / "crops.npy", mmap_mode="r")
    return FaceCrops(crops, samples, tuple(index.skipped), np.array(index.face_px, np.float32))


@dataclass(frozen=True)
class _Index:
    """The JSON record beside the crops on disk."""

    files: list[str]  # N, in the crops' order
    skipped: list[str]
    face_px: list[float]  # N


def _fill(folder: Path, dataset: Dataset, crop: CropSpec, detector: Detector) -> None:
    """Crop every face into a temporary folder, then rename it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".filling-"))
    try:
        files: list[str] = []
        skipped: list[str] = []
        face_px: list[float] = []
        shape = (len(dataset.samples), crop.side, crop.side, 3)
        out = np.lib.format.open_memmap(temporary / "all.npy", mode="w+", dtype=np.uint8, shape=shape)
        _reserve(temporary / "all.npy")
        progress = tqdm(dataset.samples, desc=f"faces of {dataset.path.name}", unit="image", leave=False, disable=None)
        for sample in progress:
            image = dataset.read(sample)
            faces: Detections = detector.detect(image).largest()
            if len(faces) == 0:
                skipped.append(sample.file)
                continue
            out[len(files)] = crop_faces(image, faces, crop, detector.name)[0]
            x0, y0, x1, y1 = faces.boxes_xyxy[0]
            face_px.append(round(float(max(x1 - x0, y1 - y0)), 1))
            files.append(sample.file)
        np.save(temporary / "crops.npy", out[: len(files)])
        del out
        (temporary / "all.npy").unlink()
        (temporary / "index.json").write_text(json.dumps(asdict(_Index(files, skipped, face_px))))
        _publish(temporary, folder)
    except OSError as error:
        raise DataError(
            f"cannot write the crop cache {folder.parent} ({error.strerror or error}); free disk space, or set NUMCLIP_CACHE "
            "to another folder"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _reserve(file: Path) -> None:
    """Occupy the disk space of a file of holes: on a full disk, writing to its memory map would kill the process without a message.

    Raises OSError if there is not enough space.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return
    with file.open("r+b") as whole:
        try:
            os.posix_fallocate(whole.fileno(), 0, file.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # these: the file system cannot reserve space
                raise


def _publish(temporary: Path, folder: Path) -> None:
    """Give the complete crops their name; if another process was faster, its equal crops stay, which it may be reading."""
    try:
        os.rename(temporary, folder)
    except OSError:
        if (folder / "index.json").is_file():
            return
        shutil.rmtree(folder, ignore_errors=True)  # incomplete
        os.rename(temporary, folder)


def _key(dataset: Dataset, crop: CropSpec, detector: str) -> str:
    stat = dataset.path.stat()
    facts: list[object] = [CACHE_VERSION, dataset.kind, str(dataset.path.resolve()), stat.st_size, stat.st_mtime_ns]
    facts += [asdict(crop), detector, cv2.__version__]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for sample in dataset.samples:
        digest.update(sample.file.encode() + b"\0")
        if dataset.path.suffix != ".tar":
            digest.update(_file_facts(dataset, sample.file))
    return f"{dataset.kind}-{digest.hexdigest()[:20]}"


def _file_facts(dataset: Dataset, name: str) -> bytes:
    """Size and time of a single file, so that a changed picture is cropped again."""
    root = dataset.path if dataset.path.is_dir() else dataset.path.parent
    try:
        stat = (root / name).stat()
    except OSError:
        return b"missing"
    return f"{stat.st_size} {stat.st_mtime_ns}".encode()
