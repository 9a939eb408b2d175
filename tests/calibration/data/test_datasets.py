"""Readers of labelled faces: valid input, dropped pictures, and errors."""

from __future__ import annotations

import struct
import tarfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("cv2")
from numclip.calibration.data.datasets import open_data
from numclip.errors import DataError


def _picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Four pictures and a CSV with splits and two group columns."""
    for i in range(4):
        _picture(tmp_path / f"{i}.png", i)
    (tmp_path / "t.csv").write_text(
        "file,label,split,gender,site,pose\n"
        "0.png,10,train,female,a,1.5\n1.png,20,train,male,a,2\n2.png,30,test,female,b,3\n3.png,40,test,male,b,4\n"
    )
    return tmp_path / "t.csv"


def test_table(table: Path) -> None:
    """Labels, splits and text columns are read; a numeric column is not a group; the test split is the default."""
    data = open_data(f"table:{table}")
    assert [s.label for s in data.samples] == [10, 20, 30, 40]
    assert data.samples[0].groups == {"gender": "female", "site": "a"}
    assert [s.file for s in data.select(None).samples] == ["2.png", "3.png"]
    assert data.read(data.samples[0]).shape == (8, 8, 3)


def test_age_is_accepted_as_label(tmp_path: Path) -> None:
    """A column `age` is accepted as the label, and a table without splits is used completely."""
    _picture(tmp_path / "a.png", 0)
    (tmp_path / "t.csv").write_text("file,age\na.png,3.5\n")
    data = open_data(f"table:{tmp_path / 't.csv'}")
    assert data.select(None).samples[0].label == 3.5


def test_folder_and_tar_agree(tmp_path: Path) -> None:
    """UTKFace gives the same samples from a folder and from an uncompressed .tar; files without a label are left out."""
    for i, name in enumerate(["21_0_1_20170101.jpg", "5_1_0_20170102.jpg", "39_1_20170103.jpg"]):
        _picture(tmp_path / "faces" / name, i)
    with tarfile.open(tmp_path / "faces.tar", "w") as tar:
        tar.add(tmp_path / "faces", "faces")
    folder, archive = open_data(f"utkface:{tmp_path / 'faces'}"), open_data(f"utkface:{tmp_path / 'faces.tar'}")
    assert [(s.file, s.label) for s in folder.samples] == [(s.file, s.label) for s in archive.samples]
    assert sorted(s.label for s in folder.samples) == [5, 21]
    assert (folder.read(folder.samples[0]) == archive.read(archive.samples[0])).all()


def test_copies(tmp_path: Path) -> None:
    """Of byte-identical pictures one is kept if their labels agree and none if they conflict; both are counted."""
    for name, seed in {"a": 0, "b": 0, "c": 1, "d": 1, "e": 2}.items():
        _picture(tmp_path / f"{name}.png", seed)
    (tmp_path / "t.csv").write_text("file,label\na.png,1\nb.png,1\nc.png,2\nd.png,9\ne.png,3\n")
    data = open_data(f"table:{tmp_path / 't.csv'}").without_copies()
    assert [s.file for s in data.samples] == ["a.png", "e.png"]
    assert (data.copies, data.conflicting) == (1, 2)


def test_copies_of_other_splits(tmp_path: Path) -> None:
    """A training picture that is a byte-identical copy of a test picture is dropped, and counted as a copy."""
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        _picture(tmp_path / f"{name}.png", seed)
    (tmp_path / "t.csv").write_text("file,label,split\na.png,1,train\nb.png,1,test\nc.png,2,train\n")
    data = open_data(f"table:{tmp_path / 't.csv'}")
    kept = data.select("train").without_copies(of=data.select("test").samples)
    assert [s.file for s in kept.samples] == ["c.png"] and (kept.copies, kept.conflicting) == (1, 0)


def test_several_top_folders_keep_their_names(tmp_path: Path) -> None:
    """A .tar of 1930s/ and 1970s/ keeps both folders, so two pictures of one name are two pictures."""
    for folder, seed in {"1930s": 0, "1970s": 1}.items():
        _picture(tmp_path / folder / "x.jpg", seed)
    with tarfile.open(tmp_path / "decades.tar", "w") as tar:
        for folder in ("1930s", "1970s"):
            tar.add(tmp_path / folder, folder)
    data = open_data(f"hci:{tmp_path / 'decades.tar'}")
    assert [s.file for s in data.samples] == ["1930s/x.jpg", "1970s/x.jpg"]
    assert len({s.label for s in data.samples}) == 2


BAD_TABLES = {
    "a picture twice": ("file,label\na.png,1\na.png,2\n", "expected each picture once, got a.png twice"),
    "no label column": ("file,x\na.png,1\n", "expected the columns file and label"),
    "a text as label": ("file,label\na.png,old\n", "line 2: expected a number"),
    "nan": ("file,label\na.png,nan\n", "line 2: expected a finite number in column label"),
    "a quote that never closes": ('file,label,sex\na.png,1,"f\nb.png,2,m\n', "line 2: expected a row of CSV"),
    "a stray quote": ('file,label,sex\na.png,1,"f"x\n', "line 2: expected a row of CSV"),
    "an endless cell": (f'file,label,sex\na.png,1,"{"f" * 140_000}"\n', "line 2: expected a row of CSV"),
    "a cell too few": (
        "file,age_low,age_high\na.png,20,29\nb.png,30\n",
        "line 3: expected 3 cells, as in the first line, got 2",
    ),
    "no picture": ("label,file\n23,a.png\n24\n", "line 3: expected 2 cells"),
    "a cell too many": ("file,label,sex\na.png,20,Doe, f\n", "line 2: expected 3 cells, as in the first line, got 4"),
    "an empty line before": ("file,label\n\na.png,old\n", "line 3: expected a number"),
    "no rows": ("file,label\n", "contains no labelled pictures"),
    "unknown split": ("file,label,split\na.png,1,dev\n", "expected a split among train, val, calibration, test"),
    "twins across splits": (
        "file,label,split,near_duplicate_group\na.png,1,train,7\nb.png,1,test,7\n",
        "near-duplicate group 7 is in two splits",
    ),
    "a person across splits": (
        "file,label,split,subject\na.png,1,train,ann\nb.png,1,test,ann\n",
        "subject ann is in two splits",
    ),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables(name: str, tmp_path: Path) -> None:
    """Each malformed table is an error in one sentence that says what was expected."""
    text, sentence = BAD_TABLES[name]
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        open_data(f"table:{tmp_path / 't.csv'}")
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("faces", "expected DATA as"), ("utk:x", "expected DATA as"), ("table:nowhere.csv", "does not exist")],
)
def test_bad_names(text: str, sentence: str) -> None:
    """A wrong data set name is an error that shows the right form."""
    with pytest.raises(DataError, match=sentence):
        open_data(text)


def test_unreadable_pictures(table: Path) -> None:
    """A missing picture, or a file that is not a picture, is an error that names it."""
    data = open_data(f"table:{table}")
    (table.parent / "0.png").write_text("not a picture")
    (table.parent / "1.png").unlink()
    for sample in data.samples[:2]:
        with pytest.raises(DataError, match=sample.file):
            data.read(sample)


def test_a_picture_too_large_to_decode(tmp_path: Path) -> None:
    """A PNG of 40,000 x 40,000 px, more than OpenCV decodes, is an error that names it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    (tmp_path / "huge.png").write_bytes(png)
    (tmp_path / "t.csv").write_text("file,label\nhuge.png,20\n")
    data = open_data(f"table:{tmp_path / 't.csv'}")
    with pytest.raises(DataError, match=r"huge\.png is too large to decode") as caught:
        data.read(data.samples[0])
    assert "\n" not in str(caught.value)


def test_missing_split(table: Path) -> None:
    """Asking for a split that does not exist is an error that lists the existing ones."""
    with pytest.raises(DataError, match="only test, train"):
        open_data(f"table:{table}").select("val")


def test_shared_sets(shared_data: Path) -> None:
    """The shared sets keep their splits: 16,901 + 1,201 + 1,200 + 2,000 UTKFace chips and 10,161 + 500 + 500 + 800 AAF."""
    sizes = {"utkface": [16901, 1201, 1200, 2000], "aaf": [10161, 500, 500, 800]}
    for kind, expected in sizes.items():
        data = open_data(f"{kind}:{shared_data / 'data' / f'{kind}.tar'}")
        assert [len(data.select(s).samples) for s in ("train", "val", "calibration", "test")] == expected
        assert "gender" in data.samples[0].groups
