"""OpenCV's build information, and system packages hidden by a virtual environment. For broken installs see test_doctor.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from numclip.doctor import packages as doctor_packages
from numclip.doctor.packages import _built_with, hidden_from_here, open_environment


@pytest.mark.parametrize(
    ("info", "name", "has"),
    [
        ("  Video I/O:\n    FFMPEG:                      YES\n      avcodec: YES (60.3)\n", "FFMPEG", True),
        ("    GStreamer:                   NO\n", "GStreamer", False),
        ("    GStreamer:                   YES (1.20.3)\n", "GStreamer", True),
        ("  GUI:                           NONE\n", "GUI", False),
        ("  GUI:                           QT5\n    QT: YES (ver 5.15.16 )\n", "GUI", True),
        ("  GUI: \n    GTK+:                        YES (ver 3.24.33)\n", "GUI", True),
        ("  GUI: \n    VTK support:                 NO\n", "GUI", False),
        ("", "FFMPEG", False),
    ],
)
def test_a_row_of_the_build_information(info: str, name: str, has: bool) -> None:
    """Build information is parsed in the forms of OpenCV's wheels, headless wheels and distributions."""
    assert _built_with(info, name) is has


def test_the_real_build_information() -> None:
    """The installed OpenCV reports that it reads video files."""
    assert "FFMPEG yes" in doctor_packages.opencv_parts().said


def test_a_package_that_the_environment_hides(tmp_path: Path) -> None:
    """TensorRT in the system's folder but not in the environment counts as hidden; an importable package does not."""
    if sys.prefix == sys.base_prefix:
        pytest.skip("needs a virtual environment")
    for name in ("tensorrt_of_the_system", "numpy"):
        (tmp_path / "python3.10/dist-packages" / name).mkdir(parents=True)

    assert hidden_from_here("tensorrt_of_the_system", tmp_path)
    assert not hidden_from_here("numpy", tmp_path)
    assert not hidden_from_here("tensorrt_nowhere", tmp_path)


def test_the_line_opens_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the printed command, the environment also uses the packages of its base Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "a venv"], check=True)
    python = tmp_path / "a venv/bin/python"
    ask = "import site, sys; print(site.ENABLE_USER_SITE is not False, [p for p in sys.path if sys.base_prefix in p and p.endswith('-packages')])"
    before = subprocess.run([python, "-c", ask], capture_output=True, text=True).stdout
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "a venv"))
    subprocess.run(["bash", "-c", open_environment()], check=True)
    after = subprocess.run([python, "-c", ask], capture_output=True, text=True).stdout

    assert before.strip().endswith("[]")
    assert after.strip().endswith("-packages']")
