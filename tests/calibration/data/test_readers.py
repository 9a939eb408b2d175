"""Every data set in its owners' layout, as a small copy on disk."""

from __future__ import annotations

import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from numclip.calibration.data.datasets import Dataset, open_data
from numclip.calibration.data.readers import KINDS
from numclip.errors import DataError


def lay_out(root: Path, pictures: list[str], lists: dict[str, str] | None = None) -> Path:
    """Write small, different pictures and text files into a folder."""
    for i, name in enumerate(pictures):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        ok, data = cv2.imencode(Path(name).suffix, np.random.default_rng(i).integers(0, 255, (9, 7, 3), np.uint8))
        assert ok
        (root / name).write_bytes(data.tobytes())
    for name, text in (lists or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def rows(data: Dataset) -> dict[str, tuple[float, str | None, str | None, int | None]]:
    """Return label, person, split and fold by base name; reads every picture."""
    for sample in data.samples:
        assert data.read(sample).shape == (9, 7, 3)
    return {Path(s.file).name: (s.label, s.subject, s.split, s.fold) for s in data.samples}


FGNET = ["images/001A02.JPG", "images/001A43a.JPG", "images/010A07b.jpg", "images/082A69.jpg", "images/readme.png"]
FGNET_ROWS = {
    "001A02.JPG": (2, "001", None, None),
    "001A43a.JPG": (43, "001", None, None),
    "010A07b.jpg": (7, "010", None, None),
    "082A69.jpg": (69, "082", None, None),
}


def test_fgnet_as_distributed(tmp_path: Path) -> None:
    """The top folder, the picture folder and a .tar give the same 4 faces of 3 people; other files are ignored."""
    strays = {"points/001a02.pts": "n_points: 68", "images/._001A02.JPG": "hidden", "Thumbs.db": ""}
    root = lay_out(tmp_path / "FGNET", FGNET, strays)
    with tarfile.open(tmp_path / "packed.tar", "w") as tar:
        tar.add(root, "FGNET")
    with tarfile.open(tmp_path / "dotted.tar", "w") as tar:
        tar.add(root / "images", ".")
    for path in (root, root / "images", tmp_path / "packed.tar", tmp_path / "dotted.tar"):
        assert rows(open_data(f"fgnet:{path}")) == FGNET_ROWS, path


def test_a_raised_two_is_no_age(tmp_path: Path) -> None:
    """A file name that starts with a digit that is not decimal gives no label."""
    root = lay_out(tmp_path, ["\u00b2_0_0_2017.jpg", "2_0_0_2017.jpg"])
    assert list(rows(open_data(f"utkface:{root}"))) == ["2_0_0_2017.jpg"]


MORPH = ["Album2/070081_2F36.JPG", "Album2/070081_3F38.JPG", "Album2/332200_02M32.JPG", "Album1/009055_1M54.jpg"]


def test_morph_by_its_names(tmp_path: Path) -> None:
    """Age, person and gender come from the file names; without lists there are no splits."""
    data = open_data(f"morph2:{lay_out(tmp_path / 'morph', MORPH)}")
    assert rows(data) == {
        "070081_2F36.JPG": (36, "070081", None, None),
        "070081_3F38.JPG": (38, "070081", None, None),
        "332200_02M32.JPG": (32, "332200", None, None),
        "009055_1M54.jpg": (54, "009055", None, None),
    }
    assert data.samples[0].groups in ({"gender": "male"}, {"gender": "female"})


def test_morph_by_the_papers_two_lists(tmp_path: Path) -> None:
    """ET_proto_train and ET_proto_val, with foreign paths and several labels per line: the paper tests on val."""
    lists = {
        "ET_proto_train.txt": "../../data/Morph/image/070081_2F36.JPG 36 37\n../x/332200_02M32.JPG 32\n",
        "ET_proto_val.txt": "../../data/Morph/image/070081_3F38.JPG 38\n",
    }
    got = rows(open_data(f"morph2:{lay_out(tmp_path / 'morph', MORPH, lists)}"))
    assert got == {
        "070081_2F36.JPG": (36, "070081", "train", None),
        "332200_02M32.JPG": (32, "332200", "train", None),
        "070081_3F38.JPG": (38, "070081", "test", None),
    }


def test_morph_by_lists_of_folds(tmp_path: Path) -> None:
    """Setting A's lists have columns separated by spaces or commas, with or without an index; each picture gets its test fold."""
    lists = {
        "Setting_A_fold0_train.txt": "W F 38 070081_3F38.JPG MORPH\nW M 32 332200_02M32.JPG MORPH\n",
        "Setting_A_fold0_test.txt": "W F 36 070081_2F36.JPG MORPH\n",
        "Setting_A_fold1_train.txt": ",race,gender,age,filename,database\n0,W,F,36,070081_2F36.JPG,MORPH\n",
        "Setting_A_fold1_test.txt": ",race,gender,age,filename,database\n0,W,F,38,070081_3F38.JPG,MORPH\n"
        "1,W,M,32,332200_02M32.JPG,MORPH\n",
    }
    got = rows(open_data(f"morph2:{lay_out(tmp_path / 'a', MORPH, lists)}"))
    assert {name: (row[2], row[3]) for name, row in got.items()} == {
        "070081_2F36.JPG": (None, 0),
        "070081_3F38.JPG": (None, 1),
        "332200_02M32.JPG": (None, 1),
    }
    plain = {"morph_C_00.txt": "../070081_2F36.JPG 36\n", "morph_C_04.txt": "../332200_02M32.JPG 32\n"}
    got = rows(open_data(f"morph2:{lay_out(tmp_path / 'c', MORPH, plain)}"))
    assert {name: row[3] for name, row in got.items()} == {"070081_2F36.JPG": 0, "332200_02M32.JPG": 4}


def test_lists_of_two_protocols_are_refused(tmp_path: Path) -> None:
    """A picture in the lists of two settings is an error that names them and says to keep one."""
    lists = {"morph_C_00.txt": "070081_2F36.JPG 36\n", "morph_D_01.txt": "070081_2F36.JPG 36\n"}
    with pytest.raises(DataError, match=r"070081_2F36.JPG is in two lists; keep only the lists of one protocol"):
        open_data(f"morph2:{lay_out(tmp_path, MORPH, lists)}")


ADIENCE = ["aligned/30@N03/landmark_aligned_face.1.a_o.jpg", "aligned/7@N0/landmark_aligned_face.2.b_o.jpg"]
ADIENCE += ["aligned/7@N0/landmark_aligned_face.9.c_o.jpg"]
HEAD = "user_id\toriginal_image\tface_id\tage\tgender\tx\ty\tdx\tdy\ttilt_ang\tfiducial_yaw_angle\tfiducial_score\n"


def test_adience_as_distributed(tmp_path: Path) -> None:
    """The owners' five fold tables give the group's index from 0, person and gender; faces without a group are left out."""
    lists = {
        "fold_0_data.txt": HEAD + "30@N03\ta_o.jpg\t1\t(25, 32)\tm\t0\t0\t1\t1\t0\t0\t1\n",
        "fold_3_data.txt": HEAD
        + "7@N0\tb_o.jpg\t2\t(8, 12)\tf\t0\t0\t1\t1\t0\t0\t1\n7@N0\tc_o.jpg\t9\tNone\tu\t0\t0\t1\t1\t0\t0\t1\n",
        "fold_frontal_0_data.txt": HEAD,
    }
    data = open_data(f"adience:{lay_out(tmp_path, ADIENCE, lists)}")
    assert rows(data) == {
        "landmark_aligned_face.1.a_o.jpg": (4, "30@N03", None, 0),
        "landmark_aligned_face.2.b_o.jpg": (2, "7@N0", None, 3),
    }
    assert [s.groups for s in data.samples] == [{"gender": "male"}, {"gender": "female"}]


def test_adience_by_short_lists(tmp_path: Path) -> None:
    """Lists with `person/picture group`, one per fold, are read."""
    lists = {"lists/simplified_adience_2.txt": "30@N03/landmark_aligned_face.1.a_o.jpg 7\n"}
    got = rows(open_data(f"adience:{lay_out(tmp_path, ADIENCE, lists)}"))
    assert got == {"landmark_aligned_face.1.a_o.jpg": (7, "30@N03", None, 2)}


def test_hci_in_folders_and_in_lists(tmp_path: Path) -> None:
    """Decades count from 0; they come from folders, names, `path 1950s`, or `path 3` with train, val and test."""
    folders = lay_out(tmp_path / "f", ["decade_database/1930s/x.jpg", "decade_database/1970s/y.png"])
    assert {k: v[0] for k, v in rows(open_data(f"hci:{folders}")).items()} == {"x.jpg": 0, "y.png": 4}
    names = ["images/1950s_decade_0a.jpg", "images/1960s_decade_0b.jpg"]
    lists = {"1950s.txt": "./images/1950s_decade_0a.jpg 1950s\n", "1960s.txt": "./images/1960s_decade_0b.jpg 1960s\n"}
    assert {k: v[0] for k, v in rows(open_data(f"hci:{lay_out(tmp_path / 'n', names, lists)}")).items()} == {
        "1950s_decade_0a.jpg": 2,
        "1960s_decade_0b.jpg": 3,
    }
    numbers = {"train.txt": "images/1950s_decade_0a.jpg 3\n", "test.txt": "images/1960s_decade_0b.jpg 4\n"}
    assert rows(open_data(f"hci:{lay_out(tmp_path / 'm', names, numbers)}")) == {
        "1950s_decade_0a.jpg": (2, None, "train", None),
        "1960s_decade_0b.jpg": (3, None, "test", None),
    }


def test_aesthetics_by_its_lists(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lists with `id.png 3.0`, grades from 1, per category and split, are read; missing photographs are counted in a warning."""
    lists = {
        "urban_train.txt": "1.png\t3.0\n2.png\t5.0\n404.png\t3.0\n",
        "people_test.txt": "3.png\t1.0\n",
    }
    data = open_data(f"aesthetics:{lay_out(tmp_path, ['png/1.png', 'png/2.png', 'png/3.png'], lists)}")
    assert rows(data) == {
        "1.png": (2, None, "train", None),
        "2.png": (4, None, "train", None),
        "3.png": (0, None, "test", None),
    }
    assert {s.groups["category"] for s in data.samples} == {"urban", "people"}
    assert "1 lines of its lists name pictures that do not exist" in caplog.text


def test_lists_with_folders_and_spaces(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A path with spaces is one path, whose end is not another picture. A picture that is missing in the folder that the list names is
    counted, not replaced by one of the same name in another folder."""
    pictures = ["my 1930s/photo 1.jpg", "1950s/1.jpg", "1970s/b.jpg", "1940s/c.jpg"]
    lists = {
        "train.txt": "my 1930s/photo 1.jpg 1930s\n1960s/b.jpg 1960s\n1940s/c.jpg 1940s\n1940s/photo 1.jpg 1940s\n0 1950s\\1.jpg 1950s\n"
    }
    data = open_data(f"hci:{lay_out(tmp_path / 'a', pictures, lists)}")
    assert {s.file: s.label for s in data.samples} == {"my 1930s/photo 1.jpg": 0, "1940s/c.jpg": 1, "1950s/1.jpg": 2}
    assert "2 lines of its lists name pictures that do not exist" in caplog.text
    caplog.clear()
    twice = ["1930s/a.jpg", "1950s/a.jpg", "1950s/b.jpg"]
    lists = {"train.txt": "a.jpg 1930s\nb.jpg 1950s\n"}
    data = open_data(f"hci:{lay_out(tmp_path / 'b', twice, lists)}")
    assert {s.file: s.label for s in data.samples} == {"1950s/b.jpg": 2}
    assert "1 lines of its lists name pictures that do not exist, or more than one" in caplog.text


def test_shares_are_no_folds(tmp_path: Path) -> None:
    """Lists named by the share of their pictures are train and test, not folds 80 and 20."""
    lists = {"morph_train_80.txt": "070081_2F36.JPG 36\n", "morph_test_20.txt": "070081_3F38.JPG 38\n"}
    got = rows(open_data(f"morph2:{lay_out(tmp_path / 'a', MORPH, lists)}"))
    assert {name: row[2:] for name, row in got.items()} == {
        "070081_2F36.JPG": ("train", None),
        "070081_3F38.JPG": ("test", None),
    }


def test_owners_lists_count_missing_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For FairFace and Adience too, a warning counts the listed pictures that do not exist. A broken row is an error with its line."""
    head = "file,age,gender,race,service_test\n"
    listed = "".join(f"train/{i}.jpg,20-29,Male,White,True\n" for i in range(1, 11))
    fairface = lay_out(tmp_path / "f", ["train/1.jpg"], {"fairface_label_train.csv": head + listed})
    assert len(open_data(f"fairface:{fairface}").samples) == 1
    assert "9 lines of its lists name pictures that do not exist" in caplog.text
    caplog.clear()
    row = "7@N0\t{}_o.jpg\t2\t(8, 12)\tf\t0\t0\t1\t1\t0\t0\t1\n"
    adience = lay_out(tmp_path / "a", ADIENCE, {"fold_3_data.txt": HEAD + "".join(map(row.format, "bxyz"))})
    assert len(open_data(f"adience:{adience}").samples) == 1
    assert "3 lines of its lists name pictures that do not exist" in caplog.text
    (fairface / "fairface_label_train.csv").write_text(head + "train/1.jpg,20-29\n")
    with pytest.raises(DataError, match="line 2: expected 5 cells"):
        open_data(f"fairface:{fairface}")


@pytest.mark.parametrize("kind", KINDS)
def test_missing_data_says_where_to_get_it(kind: str, tmp_path: Path) -> None:
    """A missing path, and a folder without labelled pictures, are errors that say where to get the data set and what to give."""
    (tmp_path / "t.csv").write_text("file,label\n")
    empty = tmp_path / "t.csv" if kind == "table" else lay_out(tmp_path / "e", ["nothing.png"])
    for path in (tmp_path / "nowhere", empty):
        with pytest.raises(DataError) as caught:
            open_data(f"{kind}:{path}")
        sentence = str(caught.value)
        assert sentence.endswith(KINDS[kind].get) and "\n" not in sentence
