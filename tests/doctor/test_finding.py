"""The commands that doctor prints, and the report without personal data."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numclip.doctor.cameras import camera
from numclip.doctor.diagnosis import Diagnosis
from numclip.doctor.finding import Finding, pip, restore, without_names
from numclip.runtime.system import read_line

NAME = st.text(st.characters(codec="ascii", categories=["Ll", "Lu", "Nd"]), min_size=6, max_size=12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ann/models/age.onnx: cut short", "…/age.onnx: cut short"),
        ("found nothing at /srv/customer/x.onnx; correct it", "found nothing at …/x.onnx; correct it"),
        ("rtsp://ann:secret@10.0.0.7:554/door: refused", "rtsp://…: refused"),
        ("SRT://cam.hans-haus.lan:9000: refused", "SRT://…: refused"),
        ("csi://0: no frame", "csi://0: no frame"),
        ("/dev/v4l/by-id/usb-Cam_SN0042-video-index0: busy", "/dev/v4l/by-id/…: busy"),
        ("/dev/video0: 640 x 480", "/dev/video0: 640 x 480"),
        ("sudo nvpmodel -m 2", "sudo nvpmodel -m 2"),
        ("/data/env/bin/python -m pip install 'numpy>=1.24'", "…/python -m pip install 'numpy>=1.24'"),
        ("pip install file:///home/ann/numclip-0.1.0-py3-none-any.whl", "pip install …/numclip-0.1.0-py3-none-any.whl"),
        ("", ""),
    ],
)
def test_what_a_report_leaves_out(text: str, expected: str) -> None:
    """The report removes private paths, logins, addresses and serial numbers, and keeps common paths."""
    assert without_names(text) == expected


@given(user=NAME, folder=NAME, host=NAME)
def test_no_name_survives(user: str, folder: str, host: str) -> None:
    """No part of a path in a private folder or of a URL appears in the report."""
    text = without_names(f"/home/q{user}q/z{folder}z/age.engine and http://q{user}q@h{host}h.example/video: no")

    assert not any(name in text for name in (f"q{user}q", f"z{folder}z", f"h{host}h"))


def test_the_user_and_the_host_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """User and host names are removed wherever they appear as separate words."""
    monkeypatch.setenv("USER", "annalena")
    monkeypatch.setattr("platform.node", lambda: "kiosk7.shop.example")

    assert without_names("annalena@kiosk7 and kiosk7.shop.example, not annalenas") == "…@… and …, not annalenas"


def test_a_typed_source_is_hidden() -> None:
    """A relative or absolute source path is removed; a camera's number is not."""
    findings = [Finding("camera", False, "ann.mp4: gives no frame", "numclip doctor --camera ann.mp4")]
    made = json.dumps(Diagnosis(tuple(findings), ("ann.mp4",)).to_json(), ensure_ascii=False)

    assert "ann" not in made
    assert "/dev/video7" in json.dumps(
        Diagnosis((Finding("camera", True, "/dev/video7: ok"),), ("/dev/video7",)).to_json()
    )


@pytest.mark.parametrize("source", ["srt://anna:pw@cam.hans-haus.invalid:9000", "anna:pw@cam.hans-haus.invalid/live"])
def test_a_camera_that_fails_is_told_without_its_host(source: str) -> None:
    """The real finding on an address that cannot be opened names the host on the screen; the report has neither host nor login."""
    found = camera(source)
    assert not found.ok
    assert "hans-haus" in found.said
    made = json.dumps(Diagnosis((found,), (source,)).to_json())
    assert not any(name in made for name in ("anna", "pw@", "hans-haus"))


def test_the_pip_line_is_this_interpreter_s() -> None:
    """The pip command is for doctor's own environment, and a shell parses it into the same words."""
    assert shlex.split(pip("install", "a>=1,<2")) == [sys.executable, "-m", "pip", "install", "a>=1,<2"]


def test_a_file_comes_back_from_where_the_package_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command restores a file with git in a checkout, and reinstalls an installed package."""
    monkeypatch.setattr("numclip.doctor.finding.PACKAGE", tmp_path)
    assert restore("runtime/models/age-nano.onnx").startswith(f"{sys.executable} -m pip install --force-reinstall")
    (tmp_path / ".git").write_text("gitdir: elsewhere")
    assert restore("a b.onnx") == f"git -C {tmp_path} checkout -- 'a b.onnx'"


def test_a_first_line(tmp_path: Path) -> None:
    """A first line is read without the zero byte of a device-tree string; None for an empty or missing file."""
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson Orin Nano\0")
    (tmp_path / "empty").write_bytes(b"")

    assert read_line(tmp_path / "model") == "NVIDIA Jetson Orin Nano"
    assert read_line(tmp_path / "empty") is None
    assert read_line(tmp_path / "none") is None
