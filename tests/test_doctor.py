"""`numclip doctor` finds planted faults, and the lines it prints make them go away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from numclip.cli import main
from numclip.runtime import doctor, model_file

DOCTOR = f"{sys.executable} -m numclip.cli doctor --json -"


def _findings(env: dict[str, str], before: str = "true") -> dict[str, dict]:
    """What doctor finds in a fresh process, after a line typed in the same shell."""
    done = subprocess.run(
        ["bash", "-c", f"{before}; {DOCTOR}"], env={**os.environ, **env}, capture_output=True, text=True
    )
    assert done.stdout, done.stderr
    return {f["check"]: f for f in json.loads(done.stdout)["findings"]}


def test_a_wrong_detector_path(tmp_path: Path) -> None:
    """NUMCLIP_YUNET naming nothing is a problem; the line printed for it makes that problem go away."""
    env = {"NUMCLIP_YUNET": str(tmp_path / "nowhere.onnx"), "NUMCLIP_CACHE": str(tmp_path)}
    found = _findings(env)["detector yunet"]
    assert not found["ok"] and found["fix"] == "unset NUMCLIP_YUNET"
    after = _findings(env, found["fix"])["detector yunet"]
    assert "NUMCLIP_YUNET" not in after["said"] and after["fix"] == "numclip fetch yunet"


def test_a_spoilt_detector(tmp_path: Path, yunet_model: Path) -> None:
    """One changed byte in the cached detector is found by its hash."""
    data = bytearray(yunet_model.read_bytes())
    data[1000] ^= 1
    (tmp_path / yunet_model.name).write_bytes(data)
    env = {"NUMCLIP_CACHE": str(tmp_path), "NUMCLIP_YUNET": ""}
    found = _findings(env)["detector yunet"]
    assert (
        not found["ok"] and "not the published file" in found["said"] and found["fix"].endswith("numclip fetch yunet")
    )


def test_a_cache_that_takes_no_files(tmp_path: Path) -> None:
    """A cache path that cannot be a folder is a problem; the printed line makes it go away."""
    (tmp_path / "file").write_text("")
    env = {"NUMCLIP_CACHE": str(tmp_path / "file" / "cache")}
    found = _findings(env)["cache"]
    assert not found["ok"] and _findings(env, found["fix"])["cache"]["ok"]


def test_a_corrupt_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipped model cut short is found, and reinstalling the package is the line."""
    data = (model_file.MODELS / "age-nano.onnx").read_bytes()
    (tmp_path / "age-nano.onnx").write_bytes(data[: len(data) // 2])
    monkeypatch.setattr(model_file, "MODELS", tmp_path)
    (found,) = doctor.models()
    assert not found.ok and found.fix is not None and "--force-reinstall" in found.fix


@pytest.mark.parametrize(
    ("check", "second"), [("opencv", "opencv-python-headless"), ("onnxruntime", "onnxruntime-gpu")]
)
def test_two_packages_with_the_same_files(check: str, second: str, tmp_path: Path) -> None:
    """A second OpenCV or onnxruntime beside the first is a problem; the line removes both and brings back one."""
    info = tmp_path / f"{second.replace('-', '_')}-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {second}\nVersion: 9.9\n")
    found = _findings({"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])})[check]
    assert not found["ok"] and f"{second} 9.9" in found["said"]
    assert found["fix"].startswith("python -m pip uninstall -y") and second in found["fix"]


def test_a_camera_that_is_none(capfd: pytest.CaptureFixture[str]) -> None:
    """A camera path that is not one is a problem, and the exit code says so."""
    assert main(["doctor", "--camera", "/dev/video63"]) == 1
    assert "PROBLEM  camera" in capfd.readouterr().out


def test_it_names_no_one(tmp_path: Path) -> None:
    """The JSON for a bug report holds neither the home folder nor the host's name."""
    import platform

    text = json.dumps(_findings({"NUMCLIP_YUNET": str(Path.home() / "x.onnx")}))
    assert str(Path.home()) + "/" not in text and (platform.node() or "no host") not in text
