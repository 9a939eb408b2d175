"""What the Jetson kit installs is enough for what the kit runs. Every command here runs without this environment's other packages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from numclip.deploy.kit import KIT
from numclip.doctor import packages
from numclip.doctor.finding import Finding
from numclip.runtime.sessions.cuda_device import find_card
from tests.video_maker import write_video

REPO = Path(__file__).resolve().parents[2]
INSTALLERS = (KIT / "venv.sh", KIT / "Dockerfile.jetpack6", KIT / "Dockerfile.jetpack7", REPO / "README.md")
# A board has its own OpenCV and TensorRT; these stand in for them. TensorRT-RTX has TensorRT's API and builds without a GPU.
FROM_THE_BOARD = {"opencv-python", "tensorrt_rtx"}


def project() -> dict[str, list[str]]:
    """The requirements of every install (under the empty name) and of each extra."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML parser")
    table = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"": table["dependencies"], **table["optional-dependencies"]}


def named(requirement: str) -> str:
    return re.split(r"[\s;<>=!\[]", requirement, maxsplit=1)[0].lower()


def extras_in(file: Path) -> list[str]:
    """The extras in a file's only command that installs numclip for a Jetson."""
    text = file.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if "pip install" in line]
    if file.suffix == ".md":
        lines = [line for line in lines if "| a Jetson" in line]
    (line,) = lines
    return [
        extra for found in re.findall(r"(?:numclip|wheel\}?|\.whl\))\[([\w,]+)\]", line) for extra in found.split(",")
    ]


def installed_by(file: Path) -> set[str]:
    """The packages that a file's command installs by name, without their own requirements."""
    rows = project()
    return {named(line) for extra in ["", *extras_in(file)] for line in rows[extra]}


def link(site: Path, names: set[str]) -> None:
    """Link installed packages, with all that they require, into a folder; those that are not installed here are left out."""
    done: set[str] = set()
    while left := names - done:
        done |= left
        for name in left:
            try:
                found = distribution(name)
            except PackageNotFoundError:
                continue
            names = names | {named(line) for line in found.requires or [] if "extra ==" not in line}
            for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
                if not (site / top).exists():
                    (site / top).symlink_to(Path(str(found.locate_file(top))))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with numclip, what venv.sh installs, and what the board's system has; nothing else."""
    made = tmp_path_factory.mktemp("board") / "site"
    made.mkdir()
    (made / "numclip").symlink_to(REPO)
    link(made, installed_by(KIT / "venv.sh") | FROM_THE_BOARD)
    return made


def alone(site: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python with the packages of this folder only."""
    env = {**os.environ, "PYTHONPATH": str(site), "NUMCLIP_CACHE": str(site.parent / "cache"), "NUMCLIP_YUNET": ""}
    command = [sys.executable, "-S", *map(str, words)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, cwd=site.parent)


def numclip(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return alone(site, "-m", "numclip.cli.main", *words)


def test_every_way_of_installing_brings_the_same() -> None:
    """The script, both Dockerfiles and README's row for a Jetson install the same packages."""
    first, *others = (installed_by(file) for file in INSTALLERS)

    assert {"numpy", "av", "tqdm"} <= first
    assert [names for names in others if names != first] == []


def test_other_packages_are_hidden(site: Path) -> None:
    """In the folder numpy is found, and pytest, which the kit does not install, is not."""
    done = alone(
        site, "-c", "from importlib.util import find_spec as f; print(f('numpy') is None, f('pytest') is None)"
    )

    assert done.stdout == "False True\n", done.stderr


@pytest.mark.parametrize("model", ["faces-nano", "age-nano"])
def test_an_engine_is_built(site: Path, model: str) -> None:
    """`numclip engine` builds what engine.sh builds; TensorRT-RTX stands in for TensorRT, and the GPU is not present."""
    pytest.importorskip("tensorrt_rtx", reason="needs the extra tensorrt-rtx")
    done = numclip(site, "engine", model, "--out", f"{model}.engine", "--library", "tensorrt_rtx", "--targets", "86")

    assert done.returncode == 0, done.stderr


def test_the_bindings_of_cuda(site: Path) -> None:
    """The CUDA bindings load, or the package that numclip then asks for is one that the kit installs."""
    done = alone(site, "-c", "from numclip.runtime.sessions.cuda_device import import_cudart; import_cudart()")
    asked = re.findall(r"DeviceError: .* needs the package (\S+), which is not installed", done.stderr)

    assert done.returncode == 0 or asked, done.stderr
    assert set(asked) <= installed_by(KIT / "venv.sh")


def test_the_reference_of_the_verification(site: Path) -> None:
    """`numclip verify`, whose reference is the .onnx file on the CPU, runs."""
    done = numclip(site, "verify", "age-nano")

    assert done.returncode == 0, done.stderr


def test_a_run(site: Path) -> None:
    """`numclip run` reads a video and writes a line for each of its frames."""
    write_video(site.parent / "clip.mp4", [np.zeros((64, 96, 3), np.uint8)] * 3)
    done = numclip(site, "run", "clip.mp4", "--jsonl", "-")

    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"faces"') == 3


def test_doctor_has_nothing_to_report(site: Path, tmp_path: Path) -> None:
    """With what the kit installs, doctor exits with 0. Without ONNX Runtime it exits with 1 although TensorRT is there, and its
    command installs that package; what cannot be checked until then refers to it. TensorRT is a stand-in."""
    if find_card() is not None:
        pytest.skip("an NVIDIA GPU is here, for which doctor rightly asks for ONNX Runtime's GPU build")
    whole, less = tmp_path / "whole", tmp_path / "less"
    shutil.copytree(site, whole, symlinks=True)
    shutil.copytree(site, less, symlinks=True, ignore=shutil.ignore_patterns("onnxruntime*"))
    (tmp_path / "tensorrt.py").write_text("__version__ = '10.3.0'")
    findings: list[dict[str, Finding]] = []
    for folder in (whole, less):
        shutil.copy(tmp_path / "tensorrt.py", folder)
        done = numclip(folder, "doctor", "--camera", str(REPO / "docs/demo.png"), "--json", "-")
        rows = [Finding(**row) for row in json.loads(done.stdout)["findings"]]
        findings.append({row.check: row for row in rows})
        assert done.returncode == (0 if folder == whole else 1), done.stdout
    kit, without = findings

    assert [row for row in kit.values() if not row.ok] == []
    assert not without["onnxruntime"].ok
    assert str(without["onnxruntime"].fix).endswith("-m pip install 'onnxruntime>=1.17'")
    waiting = [row for row in without.values() if not row.ok and row.check != "onnxruntime"]
    assert {row.said.partition(" (")[0] for row in waiting} == {"cannot be checked until the packages above are fixed"}


def test_doctor_asks_for_the_same_cuda_python() -> None:
    """The versions of cuda-python in doctor's commands are those of the extras tensorrt and jetson."""
    rows = project()

    assert rows["tensorrt"] == [packages.CUDA_PYTHON]
    assert [line.partition(";")[0] for line in rows["jetson"] if named(line) == "cuda-python"] == [
        packages.JETPACK6_CUDA_PYTHON,
        packages.JETPACK7_CUDA_PYTHON,
    ]
