"""Labels that are age bands: reading them, mixing them with exact labels, and functions that do not accept them."""

from __future__ import annotations

import math
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numclip.calibration.data.crop_cache import FaceCrops
from numclip.calibration.data.datasets import open_data
from numclip.calibration.data.protocols import Protocol
from numclip.calibration.data.readers import KINDS
from numclip.calibration.data.samples import Sample
from numclip.calibration.measure.distance import distance_to
from numclip.errors import DataError
from numclip.runtime.contract.licences import Licences, commercial_use
from numclip.train.tasks_file import load_task


def _pictures(folder: Path, names: list[str]) -> None:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.random.default_rng(i).integers(0, 255, (8, 8, 3), np.uint8))


def _faces(samples: list[Sample]) -> FaceCrops:
    return FaceCrops(
        np.zeros((len(samples), 4, 4, 3), np.uint8), tuple(samples), (), np.zeros(len(samples), np.float32)
    )


def test_a_table_of_bands(tmp_path: Path) -> None:
    """age_low and age_high give a band, an empty age_high an open-ended band, equal ends an exact label; neither is a group column."""
    _pictures(tmp_path, [f"{i}.png" for i in range(3)])
    (tmp_path / "t.csv").write_text(
        "file,age_low,age_high,gender\n0.png,20,29,male\n1.png,70,,female\n2.png,33,33,male\n"
    )
    samples = open_data(f"table:{tmp_path / 't.csv'}").samples
    assert [s.ends for s in samples] == [(20, 29), (70, math.inf), (33, 33)]
    assert [s.middle for s in samples] == [24.5, 70, 33]
    assert [s.band_high for s in samples] == [29, math.inf, None]
    assert samples[0].groups == {"gender": "male"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("0.png,29,20", "age_high to be at least age_low = 29, got 20"),
        ("0.png,x,20", "a number in column age_low"),
        ("0.png,,20", "age_low"),
    ],
)
def test_a_band_that_is_none(row: str, said: str, tmp_path: Path) -> None:
    """A band that ends before it begins, or has no lower end, is an error in one sentence that names the line."""
    (tmp_path / "t.csv").write_text(f"file,age_low,age_high\n{row}\n")
    with pytest.raises(DataError, match=f"line 2.*{said}"):
        open_data(f"table:{tmp_path / 't.csv'}")


def test_fairface_as_its_owners_hand_it_out(tmp_path: Path) -> None:
    """The owners' layout (two CSVs, train/ and val/) gives bands, groups, and the second list as test split, also from a .tar."""
    folder = tmp_path / "fairface"
    _pictures(folder, ["train/1.jpg", "train/2.jpg", "val/1.jpg"])
    head = "file,age,gender,race,service_test\n"
    rows = "train/1.jpg,50-59,Male,East Asian,True\ntrain/2.jpg,more than 70,Female,Latino_Hispanic,False\n"
    (folder / "fairface_label_train.csv").write_text(f"{head}{rows}train/9.jpg,0-2,Male,Indian,True\n")
    (folder / "fairface_label_val.csv").write_text(f"{head}val/1.jpg,3-9,Male,White,False\n")
    with tarfile.open(tmp_path / "packed.tar", "w") as tar:
        tar.add(folder, "fairface")
    for path in (folder, tmp_path / "packed.tar"):
        data = open_data(f"fairface:{path}")
        found = {s.file: (s.ends, s.split, s.groups["ethnicity"]) for s in data.samples}
        assert found == {
            "train/1.jpg": ((50, 59), "train", "east asian"),
            "train/2.jpg": ((70, math.inf), "train", "latino hispanic"),
            "val/1.jpg": ((3, 9), "test", "white"),
        }


def test_the_shared_fairface(shared_data: Path) -> None:
    """All 21,230 faces have one of nine bands, and every split has faces of all seven groups."""
    data = open_data(f"fairface:{shared_data / 'data' / 'fairface.tar'}")
    assert len(data.samples) == 21230 and len({s.ends for s in data.samples}) == 9
    assert all(len({s.groups["ethnicity"] for s in data.select(split).samples}) == 7 for split in ("val", "test"))
    data.check_labels(load_task("age").spec)


def test_fairface_allows_commercial_use() -> None:
    """Of the face data sets only FairFace has an SPDX licence that allows commercial use."""
    allowed = {name for name, kind in KINDS.items() if commercial_use(Licences(*(kind.licence,) * 4)).allowed}
    assert allowed == {"fairface"}


def test_bands_have_no_one_number() -> None:
    """Exact labels of a face with a band are an error in one sentence; lower and upper ends exist for both kinds of label."""
    exact, banded = Sample("a.png", 33.0), Sample("b.png", 20.0, band_high=29.0)
    assert _faces([exact]).labels.tolist() == [33]
    assert _faces([exact, banded]).ends.tolist() == [[33, 33], [20, 29]]
    with pytest.raises(DataError, match=r"expected exact labels, but b.png has the band 20 to 29"):
        _ = _faces([exact, banded]).labels


def test_copies_with_other_bands_conflict(tmp_path: Path) -> None:
    """Of identical pictures one is kept if their bands are equal, and none if the bands differ, even only in the upper end."""
    _pictures(tmp_path, ["0.png"])
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes((tmp_path / "0.png").read_bytes())
    table = tmp_path / "t.csv"
    table.write_text("file,age_low,age_high\n0.png,20,29\n1.png,20,29\n")
    assert len(open_data(f"table:{table}").without_copies().samples) == 1
    table.write_text("file,age_low,age_high\n0.png,20,29\n2.png,20,24\n")
    assert open_data(f"table:{table}").without_copies().conflicting == 2


def test_few_shots_of_bands() -> None:
    """A protocol counts a band as one label: two shots keep two faces of each band."""
    samples = [Sample(f"{i}.png", low, band_high=low + 9) for i in range(5) for low in (20.0, 30.0)]
    chosen = Protocol(shots=2).training(samples)
    assert sorted(s.label for s in chosen) == [20, 20, 30, 30]


def test_distances_by_hand() -> None:
    """20 to 29 lasts from the 20th to the 30th birthday: 29.9 is inside, 31 is 1 year off, 18 is 2; 33 is 1.5 from exactly 31.5."""
    ends = np.array([[20, 29], [20, 29], [20, 29], [70, np.inf], [70, np.inf], [31.5, 31.5]], float)
    values = np.array([29.9, 31, 18, 99, 66, 33])
    assert distance_to(values, ends).tolist() == pytest.approx([0, 1, 2, 0, 4, 1.5])


@given(st.floats(0, 120), st.integers(0, 100), st.integers(1, 20))
def test_the_distance_to_a_band_is_that_to_its_nearest_age(value: float, low: int, width: int) -> None:
    """The distance to a band equals the distance to the nearest age in it."""
    ages = np.linspace(low, low + width + 1, 2001)
    nearest = np.abs(ages - value).min()
    got = distance_to(np.array([value]), np.array([[low, low + width]], float))[0]
    assert got <= nearest + 1e-9 and got == pytest.approx(nearest, abs=0.006)
