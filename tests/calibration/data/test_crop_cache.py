"""The crop cache: a full disk is an error in one sentence, and processes that fill the same crops do not disturb each other."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from numclip.calibration.data import crop_cache
from numclip.calibration.data.crop_cache import face_crops
from numclip.calibration.data.datasets import Dataset, open_data
from numclip.errors import DataError
from numclip.runtime.contract.model_file import read_spec, resolve

CROP = read_spec(resolve("age-nano")).crop


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("NUMCLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "crops"


@pytest.fixture
def face(hopper: np.ndarray, tmp_path: Path) -> Dataset:
    """A table with one face."""
    cv2.imwrite(str(tmp_path / "0.png"), hopper)
    (tmp_path / "t.csv").write_text("file,label\n0.png,37\n")
    return open_data(f"table:{tmp_path / 't.csv'}")


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve disk space")
def test_a_full_disk_is_an_error(cache: Path, face: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The space of all crops is occupied before the first is written. If the disk has too little, an error says so, and nothing is left
    in the cache."""
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(1 << 20)
    crop_cache._reserve(tmp_path / "holes")
    assert (tmp_path / "holes").stat().st_blocks * 512 >= 1 << 20

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"cannot write the crop cache .*No space left on device.*free disk space"):
        face_crops(face, CROP)
    assert not list(cache.iterdir())


def test_a_second_process_changes_nothing(cache: Path, face: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process has stored the same crops in the meantime, they stay and are used; incomplete crops are replaced. No temporary
    folder is left."""
    opened = crop_cache.open_detector

    class Slow:
        """A detector during whose work another process does all of it."""

        def __init__(self, name: str) -> None:
            self.inner = opened(name)
            self.name = self.inner.name

        def detect(self, image: np.ndarray):
            with monkeypatch.context() as patch:
                patch.setattr(crop_cache, "open_detector", opened)
                face_crops(face, CROP)
            (folder,) = cache.glob("table-*")
            (folder / "mine").touch()
            return self.inner.detect(image)

    monkeypatch.setattr(crop_cache, "open_detector", Slow)
    monkeypatch.setattr(crop_cache, "identity", lambda detector: detector.name)
    assert len(face_crops(face, CROP).samples) == 1
    (folder,) = cache.iterdir()
    assert (folder / "mine").is_file(), "the crops of the faster process stay"
    (folder / "index.json").unlink()
    monkeypatch.setattr(crop_cache, "open_detector", opened)
    assert len(face_crops(face, CROP).samples) == 1
    assert list(cache.iterdir()) == [folder] and not (folder / "mine").exists()
