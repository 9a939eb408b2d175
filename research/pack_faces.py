"""Pack the faces of data sets, found and cut once, into small .tar files for a training on another machine:

    python -m numclip.research.pack_faces --data utkface:utkface.tar aaf:aaf.tar fairface:fairface.tar --out packed

Each data set becomes OUT/NAME.tar of WebP pictures, NAME.csv with their labels and splits, and NAME.crop.json with the crop by which
they were cut. `utkface:packed/utkface.tar` is then that data set, under its own name and licence, and no face is looked for: every
other crop is cut from these, as far as they reach. The crop holds what training cuts for age-base and age-small, the margin
around it included. A machine that takes less than a .tar at a time is given it in parts: `split -b 40M`, and `cat` over there.
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

SIDE_PX, COVERAGE = 176, MARGIN * 9 / 7
SPLITS = ("train", "val", "test")


def main(argv: Sequence[str] | None = None) -> int:
    """Pack; 0, or 1 or 2 after one sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m numclip.research.pack_faces",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", nargs="+", required=True, metavar="DATA", help=f"labelled faces: {DATA_FORMS}")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--splits", nargs="+", default=SPLITS, choices=SPLITS, help="train val test")
    parser.add_argument("--side", type=int, default=SIDE_PX, metavar="PX", help=f"of the pictures; {SIDE_PX}")
    parser.add_argument("--quality", type=int, default=87, help="of WebP, 1 to 100; 87")
    args = parser.parse_args(argv)
    try:
        crop = load_task("age").covering(COVERAGE).crop(args.side)
        for text in args.data:
            path, n = pack(open_data(text), crop, args.out, args.splits, args.quality)
            print(f"{path}: {n} faces, {path.stat().st_size / 1e6:.1f} MB")
    except NumclipError as error:
        print(f"numclip: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def pack(
    dataset: Dataset, crop: CropSpec, out: Path, splits: Sequence[str] = SPLITS, quality: int = 87
) -> tuple[Path, int]:
    """Write one data set's faces below `out`; the .tar, and how many. Copies are dropped. Raises DataError, OutputError."""
    kept = tuple(s for s in dataset.samples if s.split in splits)
    if not kept:
        raise UsageError(f"{dataset.name}: expected pictures in the splits {', '.join(splits)}, it has none")
    faces = face_crops(replace(dataset, samples=kept).without_copies(), crop)
    path = out / f"{dataset.path.stem}.tar"
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
    """The labels, as a CSV beside the .tar."""
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
