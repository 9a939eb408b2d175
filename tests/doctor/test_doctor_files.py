"""The cache check on a full disk. For corrupt models and detectors and read-only caches see test_doctor.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from numclip.doctor import files as doctor_files


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little free space is a problem that names the free and the needed space (the disk is simulated)."""
    monkeypatch.setenv("NUMCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor_files, "_free_mb", lambda folder: 12)
    (found,) = doctor_files.cache()

    assert not found.ok
    assert "12 MB free" in found.said
    assert "500 MB" in found.said


def test_the_last_resort_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no known folder is writable, the command creates one."""
    monkeypatch.setattr(doctor_files, "_takes_files", lambda folder: False)
    line = doctor_files._other_cache(0)
    done = subprocess.run(
        ["bash", "-c", f"{line}; echo x > $NUMCLIP_CACHE/x && cat $NUMCLIP_CACHE/x"],
        env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )

    assert done.stdout == "x\n"


def test_looking_for_a_folder_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searching for a writable folder creates nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUMCLIP_CACHE", "")
    line = doctor_files._other_cache(0)

    assert line == f"export NUMCLIP_CACHE={tmp_path}/numclip-cache"
    assert list(tmp_path.iterdir()) == []
