"""An input that cannot be read is a row of errors.parquet; the others are read."""

from __future__ import annotations

import json
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra bulk")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra bulk")
from numclip.bulk import BulkOptions, bulk  # noqa: E402
from numclip.bulk.inputs import list_inputs  # noqa: E402
from numclip.bulk.store import Store  # noqa: E402
from numclip.cli.main import main  # noqa: E402
from numclip.errors import UsageError  # noqa: E402


def results(out: Path, *inputs: Path, from_file: Path | None = None) -> tuple[list[str], dict[str, str]]:
    """Return the sources of the faces, and the errors by source."""
    bulk(BulkOptions(tuple(map(str, inputs)), out, from_file, device="cpu", workers=1))
    errors = {row["source"]: row["error"] for row in pq.read_table(out / "errors.parquet").to_pylist()}
    return pq.read_table(out / "faces")["source"].to_pylist(), errors


def zipped(path: Path, picture: bytes, damage: Callable[[bytearray, zipfile.ZipInfo], None]) -> Path:
    """Write a zip with good.jpg and bad.jpg, and damage the second: its headers or its bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bad.jpg", picture)
        archive.writestr("good.jpg", picture)
        bad = archive.getinfo("bad.jpg")
    data = bytearray(path.read_bytes())
    damage(data, bad)
    path.write_bytes(data)
    return path


def with_password(data: bytearray, bad: zipfile.ZipInfo) -> None:
    data[bad.header_offset + 6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1


def with_deflate64(data: bytearray, bad: zipfile.ZipInfo) -> None:
    data[bad.header_offset + 8] = 9
    data[data.index(b"PK\1\2") + 10] = 9


def with_damage(data: bytearray, bad: zipfile.ZipInfo) -> None:
    start = bad.header_offset + 30 + len(bad.filename)
    data[start : start + 200] = b"\xff" * 200


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (with_password, "password required for extraction); unpack the archive with another program"),
        (with_deflate64, "compression method is not supported); unpack the archive with another program"),
        (with_damage, "while decompressing data"),
    ],
)
def test_a_bad_member_of_a_zip(
    damage: Callable[[bytearray, zipfile.ZipInfo], None], sentence: str, hopper: np.ndarray, tmp_path: Path
) -> None:
    """A member with a password, of an unknown method (Deflate64), or with damaged bytes is an error; the next one is read."""
    path = zipped(tmp_path / "a.zip", cv2.imencode(".jpg", hopper)[1].tobytes(), damage)
    faces, errors = results(tmp_path / "out", path)

    assert faces == [f"{path}::good.jpg"]
    assert list(errors) == [f"{path}::bad.jpg"]
    assert sentence in errors[f"{path}::bad.jpg"]


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz"])
def test_a_damaged_compressed_tar(packing: str, hopper: np.ndarray, tmp_path: Path) -> None:
    """Of an archive whose bytes are damaged after the first member, the first is read, and there is an error."""
    cv2.imwrite(str(tmp_path / "a.jpg"), hopper)
    (tmp_path / "noise").write_bytes(np.random.default_rng(0).bytes(3_000_000))
    path = tmp_path / f"a.tar.{packing}"
    with tarfile.open(path, f"w:{packing}") as archive:  # type: ignore[call-overload]
        archive.add(tmp_path / "a.jpg", "a.jpg")
        archive.add(tmp_path / "noise", "noise")
    data = bytearray(path.read_bytes())
    data[-400_000:-300_000] = b"\xff" * 100_000
    path.write_bytes(data)
    faces, errors = results(tmp_path / "out", path)

    assert faces == [f"{path}::a.jpg"] and errors
    assert all(source.startswith(str(path)) and source in error for source, error in errors.items())


def test_a_list_with_bad_addresses(hopper: np.ndarray, tmp_path: Path) -> None:
    """In a list, an address with a space, one that no server answers, one of an unknown kind, a file:// address with a host and a
    missing file are errors; a file:// address is a file."""
    cv2.imwrite(str(tmp_path / "my photo.jpg"), hopper)
    bad = [
        "http://127.0.0.1:9/my photo.jpg",
        "http://127.0.0.1:9/a.jpg",
        "unknown://bucket/a.jpg",
        "file://host/a.jpg",
        "gone.jpg",
    ]
    address = (tmp_path / "my photo.jpg").as_uri()
    (tmp_path / "list.txt").write_text("\n".join([*bad, address]))
    faces, errors = results(tmp_path / "out", from_file=tmp_path / "list.txt")

    assert faces == [str(tmp_path / "my photo.jpg")]
    assert set(errors) == set(bad)
    assert "a space is written as %20" in errors[bad[0]] and "expected file:///PATH" in errors[bad[3]]
    assert all(source in error for source, error in errors.items())


def test_a_file_address_is_its_path(tmp_path: Path) -> None:
    """file:// names files, folders and globs; the source is the path, once, even if it is also named without file://."""
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "x.jpg").write_bytes(b"1")
    path = os.fspath(tmp_path / "a b" / "x.jpg")

    for words in ([f"file://{tmp_path}/a%20b/x.jpg"], [f"file://localhost{tmp_path}/a%20b", path]):
        assert [found.source for found in list_inputs(words)] == [path]
    assert [found.source for found in list_inputs([f"file://{tmp_path}/*/x.jpg"])] == [path]


def test_odd_files_of_a_folder(hopper: np.ndarray, tmp_path: Path) -> None:
    """A PNG with a truncated EXIF block is read. A link to itself and a named pipe are rows of errors; the run ends."""
    folder = tmp_path / "in"
    folder.mkdir()
    data = cv2.imencode(".png", hopper)[1].tobytes()
    chunk = b"eXIf" + b"II*\0"
    exif = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (folder / "a.png").write_bytes(data[:33] + exif + data[33:])
    os.mkfifo(folder / "pipe")
    os.symlink("loop", folder / "loop")
    faces, errors = results(tmp_path / "out", folder)
    assert faces == [str(folder / "a.png")]
    assert set(errors) == {str(folder / "pipe"), str(folder / "loop")}
    assert "not a file" in errors[str(folder / "pipe")] and "symbolic links" in errors[str(folder / "loop")]


def test_shards_of_one_folder_belong_together(hopper: np.ndarray, tmp_path: Path) -> None:
    """A second shard with a further input, another unit size, or another number of shards is an error that changes nothing; the right
    second shard completes the folder."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("b.jpg", "c.jpg"):
        cv2.imwrite(str(folder / name), hopper)

    def read(shard: tuple[int, int], unit_size: int = 1) -> None:
        bulk(BulkOptions((str(folder),), out, device="cpu", workers=1, shard=shard, unit_size=unit_size, dedupe=False))

    read((1, 2))
    cv2.imwrite(str(folder / "a.jpg"), hopper)
    with pytest.raises(UsageError, match="other inputs"):
        read((2, 2))
    (folder / "a.jpg").unlink()
    with pytest.raises(UsageError, match="unit_size was 1, now 2"):
        read((2, 2), unit_size=2)
    with pytest.raises(UsageError, match="number of shards was 2, now 1"):
        read((1, 1))
    read((2, 2))
    assert sorted(pq.read_table(out / "faces")["source"].to_pylist()) == [str(folder / n) for n in ("b.jpg", "c.jpg")]


def test_an_interrupted_merge_is_seen(hopper: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a finished run is repeated and ends while its tables are merged, there is no summary.json, and the earlier rows are still
    there. A CSV copy that is not asked for again is removed."""
    cv2.imwrite(str(tmp_path / "a.jpg"), hopper)
    options = BulkOptions(
        (str(tmp_path / "a.jpg"),), tmp_path / "out", device="cpu", workers=1, formats=("parquet", "csv")
    )
    bulk(options)
    assert (tmp_path / "out" / "faces.csv").is_file() and (tmp_path / "out" / "summary.json").is_file()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_write_faces", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            bulk(options)
    assert not (tmp_path / "out" / "summary.json").exists()
    assert len(pq.read_table(tmp_path / "out" / "faces")) == 1
    bulk(replace(options, formats=("parquet",)))
    assert (tmp_path / "out" / "summary.json").is_file() and not (tmp_path / "out" / "faces.csv").exists()


def test_json_alone_on_stdout(hopper: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`numclip bulk --json -` prints one JSON object and nothing else."""
    cv2.imwrite(str(tmp_path / "a.jpg"), hopper)
    assert main(["bulk", str(tmp_path / "a.jpg"), "--out", str(tmp_path / "out"), "--workers", "1", "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["inputs"] == 1
