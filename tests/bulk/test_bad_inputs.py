"""An input that cannot be read is a row of errors.parquet; the others are read."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra bulk")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra bulk")
from numclip.bulk import BulkOptions, bulk  # noqa: E402
from numclip.bulk.inputs import list_inputs  # noqa: E402


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
