"""Detect and crop the faces of data sets once, and pack them into small .tar files for training on another machine:

    python -m numclip.research.pack_faces --data utkface:utkface.tar aaf:aaf.tar fairface:fairface.tar --out packed

Each data set becomes OUT/NAME.tar with WebP pictures, NAME.csv with their labels and splits, and NAME.crop.json with the crop
contract. `utkface:packed/utkface.tar` then serves as that data set, with its own name and licence. No face detection is needed:
every other crop is cut from the packed pictures, as far as they reach. They cover the crops that training needs for age-base and
age-small, margin included. To send a .tar in parts, use `split -b 40M`, and `cat` on the other machine.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from tqdm import tqdm

from ..calibration.data.crop_cache import FaceCrops, face_crops
from ..calibration.data.datasets import DATA_FORMS, Dataset, open_data
from ..errors import NumclipError, OutputError, UsageError
from ..runtime.contract.fields import to_json
from ..runtime.contract.spec import CropSpec
from ..runtime.places import write_json, write_whole
from ..train.tasks_file import load_task
from ..train.training_data import MARGIN
from .exit_code import complain

SIDE_PX, COVERAGE = 176, MARGIN * 9 / 7
SPLITS = ("train", "val", "test")


def main(argv: Sequence[str] | None = None) -> int:
    """Pack the data sets; returns 0, or 1 or 2 after one sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m numclip.research.pack_faces",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", nargs="+", required=True, metavar="DATA", help=f"labelled faces: {DATA_FORMS}")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--splits", nargs="+", default=SPLITS, choices=SPLITS, help="splits to pack (default: train val test)"
    )
    parser.add_argument(
        "--side", type=int, default=SIDE_PX, metavar="PX", help=f"side of the pictures (default: {SIDE_PX})"
    )
    parser.add_argument("--quality", type=int, default=87, help="WebP quality, 1 to 100 (default: 87)")
    args = parser.parse_args(argv)
    try:
        crop = load_task("age").covering(COVERAGE).crop(args.side)
        _check_stems(args.data)
        for text in args.data:
            path, n = pack(open_data(text), crop, args.out, args.splits, args.quality)
            print(f"{path}: {n} faces, {path.stat().st_size / 1e6:.1f} MB")
    except NumclipError as error:
        return complain(error)
    return 0


def _check_stems(data: Sequence[str]) -> None:
    """Raise UsageError for two data sets that would be packed into one file."""
    found: dict[str, str] = {}
    for text in data:
        stem = Path(text.partition(":")[2]).stem
        if stem in found:
            raise UsageError(
                f"expected --data with different names, got {found[stem]} and {text}; pack them into two folders"
            )
        found[stem] = text


def pack(
    dataset: Dataset, crop: CropSpec, out: Path, splits: Sequence[str] = SPLITS, quality: int = 87
) -> tuple[Path, int]:
    """Write one data set's faces into `out`; returns the .tar and the number of faces. Duplicates are dropped, and no file is replaced.

    Raises UsageError, DataError or OutputError.
    """
    path = out / f"{dataset.path.stem}.tar"
    for file in (path, path.with_suffix(".csv"), path.with_suffix(".crop.json")):
        if file.exists():
            raise UsageError(
                f"{file}: already exists, and may be what is to be packed; give another --out, or remove it"
            )
    kept = tuple(s for s in dataset.samples if s.split in splits)
    if not kept:
        raise UsageError(
            f"{dataset.name}: expected pictures in the splits {', '.join(splits)}, found none; choose other --splits"
        )
    faces = face_crops(replace(dataset, samples=kept).without_copies(), crop)
    try:
        out.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with tarfile.open(part, "w") as tar:
            for i in tqdm(range(len(faces.samples)), desc=path.name, unit="face", leave=False, disable=None):
                picture = cv2.cvtColor(np.asarray(faces.crops[i]), cv2.COLOR_RGB2BGR)
                data = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
                entry = tarfile.TarInfo(f"{path.stem}/{_name(faces, i)}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        part.rename(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); free space or give another --out") from None
    write_whole(path.with_suffix(".csv"), _table(faces).encode())
    write_json(str(path.with_suffix(".crop.json")), to_json(crop))
    return path, len(faces.samples)


def _name(faces: FaceCrops, at: int) -> str:
    return str(PurePosixPath(faces.samples[at].file).with_suffix(".webp"))


def _table(faces: FaceCrops) -> str:
    """Return the CSV with the labels, which is written next to the .tar."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    exact = all(s.band_high is None for s in faces.samples)
    rows.writerow(["file", *(["age"] if exact else ["age_low", "age_high"]), "split", "near_duplicate_group"])
    for i, sample in enumerate(faces.samples):
        low, high = sample.ends
        ends = [f"{low:g}", f"{high:g}" if math.isfinite(high) else ""]
        rows.writerow([_name(faces, i), *(ends[:1] if exact else ends), sample.split, sample.near_duplicate_group])
    return text.getvalue()


if __name__ == "__main__":
    sys.exit(main())
