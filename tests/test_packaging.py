"""What is shipped: the wheel holds exactly the package, one version, and runs in an empty environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
DATA = ("py.typed", "runtime/models/*", "train/tasks/*.json", "train/towers/*.json")
FOLDERS = ("runtime", "calibration", "train", "train/studies", "export")
LEFT_OUT = (".git", ".venv", "build", "dist", "runs", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")


def call(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that the repository stays clean."""
    source, out = tmp_path_factory.mktemp("source") / "numclip", tmp_path_factory.mktemp("wheel")
    shutil.copytree(REPO, source, ignore=shutil.ignore_patterns(*LEFT_OUT))
    pip = (sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "--no-deps", "-w", out, source)
    code, _, said = call(*pip)
    if code != 0 and "No matching distribution found for setuptools" in said:
        pytest.skip("the build backend setuptools cannot be installed here (offline)")
    assert code == 0, said
    (made,) = out.glob("numclip-*.whl")
    return made


def test_the_wheel_holds_exactly_the_package(wheel: Path) -> None:
    """Every module and data file of the package, its licence and metadata; no tests, no build files."""
    modules = [*REPO.glob("*.py"), *(p for folder in FOLDERS for p in (REPO / folder).glob("*.py"))]
    data = [p for pattern in DATA for p in REPO.glob(pattern) if p.is_file()]
    expected = {f"numclip/{p.relative_to(REPO).as_posix()}" for p in [*modules, *data]}

    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = [name for name in archive.namelist() if ".dist-info/" in name]

    assert names == expected
    assert any(name.endswith("licenses/LICENSE") for name in metadata)
    assert any(name.endswith("entry_points.txt") for name in metadata)


def test_the_wheel_is_named_by_the_one_version(wheel: Path) -> None:
    """The number in pyproject is the number of the wheel, pure Python."""
    match = re.search(r'^version = "([^"]+)"', (REPO / "pyproject.toml").read_text(), re.M)
    assert match is not None

    assert wheel.name == f"numclip-{match[1]}-py3-none-any.whl"


def test_the_version_is_written_once() -> None:
    """No module repeats the version's number."""
    modules = [*REPO.glob("*.py"), *(p for folder in FOLDERS for p in (REPO / folder).rglob("*.py"))]

    assert [p.name for p in modules if re.search(r'__version__\s*=\s*"\d', p.read_text(encoding="utf-8"))] == []


def requirements(extra: str) -> set[str]:
    """The package names an extra brings, the extras it names included."""
    from importlib.metadata import requires

    found: set[str] = set()
    for line in requires("numclip") or []:
        if f'extra == "{extra}"' not in line.replace("'", '"'):
            continue
        name = re.split(r"[\s;<>=!\[]", line, maxsplit=1)[0].lower()
        inner = re.search(r"\[(\w+)\]", line.split(";")[0])
        found |= requirements(inner[1]) if name == "numclip" and inner else {name}
    return found


def test_no_extra_brings_two_of_a_kind() -> None:
    """Never both onnxruntimes, never both OpenCVs, and no torch outside train and export."""
    for extra in ("cpu", "gpu", "headless", "demo", "train", "export", "dev"):
        names = requirements(extra)
        assert not {"onnxruntime", "onnxruntime-gpu"} <= names
        assert not {"opencv-python", "opencv-python-headless"} <= names
        assert ("torch" in names) == (extra in ("train", "export"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """With `cpu` alone: `numclip run` reads a video, `numclip demo` names its extra; without any, the extra is named."""
    pytest.importorskip("skimage", reason="the clip is made from the demo extra's portraits")
    from numclip.runtime import demo_clip

    clip = tmp_path / "clip.mp4"
    demo_clip.write_clip(clip)
    call(sys.executable, "-m", "venv", tmp_path / "venv")
    pip = (tmp_path / "venv/bin/pip", "install", "-q", "--disable-pip-version-check", "-c", REPO / "constraints.txt")
    numclip = tmp_path / "venv/bin/numclip"
    env = {k: v for k, v in os.environ.items() if not k.startswith("NUMCLIP") and k != "PYTHONPATH"}
    env["NUMCLIP_CACHE"] = str(tmp_path / "cache")

    code, _, said = call(*pip, wheel)
    assert code == 0, said
    code, _, said = call(numclip, "run", clip, "--jsonl", "none.jsonl", cwd=tmp_path, env=env)
    assert code == 1, said
    assert "numclip[cpu]" in said
    assert said.count("\n") == 1

    code, _, said = call(*pip, f"{wheel}[cpu]")
    assert code == 0, said
    code, _, said = call(numclip, "run", clip, "--jsonl", "out.jsonl", cwd=tmp_path, env=env)
    assert code == 0, said
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(lines) == demo_clip.NUM_FRAMES
    assert sum(len(line["faces"]) == 2 for line in lines) >= 0.9 * len(lines)
    code, _, said = call(numclip, "demo", cwd=tmp_path, env=env)
    assert code == 1
    assert 'pip install "numclip[demo]"' in said
