"""Packed faces replace the data set: same names, labels and licence, almost the same crops, and no detector needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")
from numclip.calibration.data import crop_cache
from numclip.calibration.data.crop_cache import face_crops
from numclip.calibration.data.datasets import LICENCES, open_data
from numclip.cli.main import main as numclip_main
from numclip.errors import DataError
from numclip.research.pack_faces import COVERAGE, main, pack
from numclip.train.tasks_file import load_task


@pytest.mark.parametrize("kind", ["aaf", "fairface"])
def test_packed_faces_are_the_data_set(kind: str, shared_data: Path, tmp_path: Path, monkeypatch) -> None:
    """40 packed pictures have the same labels and splits. The crops for training and val differ from those of the original pictures
    by a few grey levels on average, and no detector runs."""
    whole = open_data(f"{kind}:{shared_data / 'data' / f'{kind}.tar'}")
    some = replace(whole, samples=tuple(s for s in whole.samples if s.split in ("train", "val"))[::300][:40])
    crop = load_task("age").covering(COVERAGE).crop(176)
    path, n = pack(some, crop, tmp_path / "packed")
    contracts = [load_task("age").crop(96), load_task("age").covering(9 / 7).crop(144)]
    direct = [face_crops(some, c) for c in contracts]

    def refuse(*_: object) -> None:
        raise AssertionError("a detector was opened, but none is needed")

    monkeypatch.setattr(crop_cache, "open_detector", refuse)
    packed = open_data(f"{kind}:{path}")
    assert packed.short_name == f"{kind}:{kind}.tar" and LICENCES[packed.kind] == LICENCES[kind]
    labels = {Path(s.file).stem: (s.ends, s.split) for s in packed.samples}
    assert n == len(labels) and labels == {Path(s.file).stem: (s.ends, s.split) for s in direct[0].samples}
    for contract, before in zip(contracts, direct, strict=True):
        after = face_crops(packed, contract)
        place = {Path(s.file).stem: i for i, s in enumerate(after.samples)}
        for i, sample in enumerate(before.samples):
            inner = slice(contract.side // 8, -contract.side // 8)
            apart = np.asarray(before.crops[i], int) - np.asarray(after.crops[place[Path(sample.file).stem]], int)
            assert np.abs(apart[inner, inner]).mean() < 9


def test_command_and_training(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command packs faces and prints the size; a training on the packed faces writes a checkpoint; a wrong crop file is an error
    that names it."""
    few = open_data(f"fairface:{shared_data / 'data' / 'fairface.tar'}").select("val")
    rows = ["file,age_low,age_high,split"]
    (tmp_path / "few").mkdir()
    for i, sample in enumerate(few.samples[:24]):
        (tmp_path / "few" / sample.file).write_bytes(few.read_bytes(sample.file))
        rows.append(
            f"{sample.file},{sample.ends[0]:g},{sample.ends[1]:g},{'val' if i % 3 == 0 else 'train'}".replace("inf", "")
        )
    (tmp_path / "few.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "packed"
    assert main(["--data", f"fairface:{tmp_path / 'few'}", "--out", str(out)]) == 0
    assert "few.tar: 24 faces" in capsys.readouterr().out
    data = f"fairface:{out / 'few.tar'}"
    run = ["train", "--data", data, "--out", str(tmp_path / "run"), "--epochs", "1", "--batch", "8", "--side", "48"]
    assert numclip_main(run) == 0
    (out / "few.crop.json").write_text("{}")
    with pytest.raises(DataError, match=r"few\.crop\.json: expected the description of packed face crops"):
        open_data(data)


def test_nothing_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Packing into the folder of the pictures, or two data sets of one name into one folder, is an error, and no file changes."""
    for folder in ("a", "b"):
        (tmp_path / folder / "few").mkdir(parents=True)
        (tmp_path / folder / "few" / "1.jpg").write_bytes(b"a picture")
        (tmp_path / folder / "few.csv").write_text("file,label,split\n1.jpg,20,train\n")
    a, b = (f"utkface:{tmp_path / folder / 'few'}" for folder in ("a", "b"))
    assert main(["--data", a, "--out", str(tmp_path / "a")]) == 2
    assert "few.csv: already exists, and may be what is to be packed" in capsys.readouterr().err
    assert main(["--data", a, b, "--out", str(tmp_path / "packed")]) == 2
    assert f"got {a} and {b}; pack them into two folders" in capsys.readouterr().err
    assert (tmp_path / "a" / "few.csv").read_text() == "file,label,split\n1.jpg,20,train\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
