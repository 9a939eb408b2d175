"""Packaging: exact contents of sdist and wheel, one version, types, and a run on every installed Python."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
DATA = (
    "py.typed",
    "runtime/models/*",
    "calibration/measure/*.json",
    "deploy/jetson/*",
    "server/dist/page/*",
    "web/dist/site/*",
    "train/tasks/*.json",
    "train/towers/*.json",
    "train/recipes/*.json",
)
FOLDERS = (
    "runtime",
    "calibration",
    "train",
    "export",
    "demo",
    "bench",
    "doctor",
    "deploy",
    "server",
    "web",
    "bulk",
    "cli",
)
LEFT_OUT = (".git", ".venv", "node_modules", "build", "runs", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")
NOT_SHIPPED = re.compile(
    r"\.ci/|\.github/|\.dockerignore$|(?:.*/)?\.gitignore$|\.pre-commit-config\.yaml$|train/checkpoints/"
)
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
OPENCVS = ("4.8", "4.14", "5")
# JetPack 6 has Python 3.10 and NVIDIA's OpenCV 4.8, built for NumPy 1; wheels of the same versions stand in for it.
BOARD = ("numpy>=1.24,<2", "opencv-python==4.8.0.74")


def call(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=900)
    return done.returncode, done.stdout, done.stderr


def alone() -> dict[str, str]:
    """Return the environment without variables that would make a new environment use this one."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NUMCLIP", "PYENV"))}
    return {k: v for k, v in kept.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sdist and wheel; the wheel is made from the sdist. Built from a copy, so that the repository stays clean."""
    source, out = tmp_path_factory.mktemp("source") / "numclip", tmp_path_factory.mktemp("built")
    shutil.copytree(REPO, source, ignore=shutil.ignore_patterns(*LEFT_OUT))
    code, _, said = call(sys.executable, "-m", "build", "--outdir", out, source, env=alone())
    if code != 0 and "No matching distribution found for setuptools" in said:
        pytest.skip("the build backend setuptools cannot be installed here (offline)")
    assert code == 0, said
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    (made,) = built.glob("numclip-*.whl")
    return made


def package_modules() -> list[Path]:
    """Return every module of the package, without the Python files in node's packages."""
    inside = [p for folder in FOLDERS for p in (REPO / folder).rglob("*.py") if "node_modules" not in p.parts]
    return [*REPO.glob("*.py"), *inside]


def package_files() -> set[str]:
    """Return every module and data file of the package, relative to its root."""
    modules = package_modules()
    data = [p for pattern in DATA for p in REPO.glob(pattern) if p.is_file()]
    return {p.relative_to(REPO).as_posix() for p in [*modules, *data]}


def test_the_wheel_holds_exactly_the_package(wheel: Path) -> None:
    """The wheel has every module and data file of the package, licence and metadata, and no tests or build files."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = {name.partition(".dist-info/")[2] for name in archive.namelist() if ".dist-info/" in name}

    assert names == {f"numclip/{name}" for name in package_files()}
    assert metadata == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}


def test_the_sdist_holds_exactly_the_project(built: Path) -> None:
    """The sdist has every file of the repository except CI, tools and training checkpoints, plus setuptools' own files."""
    code, listed, said = call("git", "-C", REPO, "ls-files", "--cached", "--others", "--exclude-standard")
    if code != 0:
        pytest.skip(f"the repository's files are asked of git: {said.strip()}")
    expected = {n for n in listed.splitlines() if not NOT_SHIPPED.match(n) and (REPO / n).is_file()}
    (archive,) = built.glob("numclip-*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {m.name.partition("/")[2] for m in opened.getmembers() if m.isfile()}
    own = {n for n in names if n.startswith(("numclip.egg-info/", "web/dist/site/", "server/dist/page/"))} | {
        "PKG-INFO",
        "setup.cfg",
    }

    assert names - own == expected


def test_both_are_named_by_the_one_version(built: Path) -> None:
    """Both have the version in pyproject.toml, and the wheel is pure Python."""
    match = re.search(r'^version = "([^"]+)"', (REPO / "pyproject.toml").read_text(), re.M)
    assert match is not None

    assert {p.name for p in built.iterdir()} == {f"numclip-{match[1]}-py3-none-any.whl", f"numclip-{match[1]}.tar.gz"}


def test_the_version_is_written_once() -> None:
    """No module repeats the version number."""
    assert [
        p.name for p in package_modules() if re.search(r'__version__\s*=\s*"\d', p.read_text(encoding="utf-8"))
    ] == []


PROGRAM = """
import numclip
from typing_extensions import assert_type

model = numclip.load("age-nano", device="cpu")
spec: numclip.ModelSpec = model.spec
for result in numclip.stream("clip.mp4", model=model):
    for face in result.faces:
        if face.reading is not None:
            assert_type(face.reading.value, float)
            assert_type(face.track_id, int | None)
assert_type(numclip.__version__, str)
"""


def test_a_program_is_type_checked_against_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """With the installed wheel, pyright in strict mode accepts a correct program and rejects a wrong one."""
    call(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    (site,) = (tmp_path / "venv").glob("lib/python3*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    import numpy as np

    (site / "others.pth").write_text(str(Path(np.__file__).parents[1]))  # numpy's types, from this environment
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict", "pythonVersion": "3.10"}')
    pyright = [sys.executable, "-m", "pyright", "--pythonpath", tmp_path / "venv/bin/python", "-p", tmp_path]
    (tmp_path / "program.py").write_text(PROGRAM)
    right, said, _ = call(*pyright)
    (tmp_path / "program.py").write_text(PROGRAM + "wrong: str = model.spec.crop.side\nmodel.no_such_thing\n")
    wrong, faults, _ = call(*pyright)

    assert right == 0, said
    assert wrong == 1
    assert faults.count(" error: ") >= 2, faults


def requirements(extra: str) -> set[str]:
    """Return the packages that an extra installs, including those of the extras that it names."""
    from importlib.metadata import requires

    found: set[str] = set()
    for line in requires("numclip") or []:
        if f'extra == "{extra}"' not in line.replace("'", '"'):
            continue
        name = re.split(r"[\s;<>=!\[]", line, maxsplit=1)[0].lower()
        inner = re.search(r"\[([\w,-]+)\]", line.split(";")[0])  # one extra or several
        if name == "numclip" and inner:
            found = found.union(*(requirements(each) for each in inner[1].split(",")))
        else:
            found.add(name)
    return found


def test_no_extra_brings_two_of_a_kind() -> None:
    """No extra installs two onnxruntimes or two OpenCVs, and only train and export install torch."""
    for extra in ("cpu", "gpu", "headless", "jetson", "demo", "train", "export", "dev"):
        names = requirements(extra)
        assert not {"onnxruntime", "onnxruntime-gpu"} <= names
        assert not {"opencv-python", "opencv-python-headless"} <= names
        assert ("torch" in names) == (extra in ("train", "export"))


def test_the_base_install_leaves_the_system_s_packages_alone(wheel: Path) -> None:
    """Without an extra no OpenCV, ONNX Runtime or TensorRT is installed, so those of a Jetson are kept and used."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    base = {
        re.split(r"[\s;<>=!\[]", line.partition(": ")[2])[0]
        for line in lines
        if line.startswith("Requires-Dist") and "extra ==" not in line
    }

    assert base == {"numpy", "av", "tqdm"}


def resolves(*words: str | Path, folder: Path) -> None:
    """Check that pip finds wheels for another Python or machine; nothing is installed."""
    dry = ["install", "--dry-run", "--ignore-installed", "--only-binary=:all:", "--target", folder]
    code, _, said = call(sys.executable, "-m", "pip", *dry, *words, env=alone())
    if code != 0 and re.search(r"connection|Temporary failure|Network is unreachable|timed out", said, re.I):
        pytest.skip("the package registry cannot be reached")
    assert code == 0, said


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("extra", ["", "[cpu]", "[headless]"])
def test_the_install_resolves(wheel: Path, tmp_path: Path, python: str, extra: str) -> None:
    """The package installs from wheels only on every Python that pyproject.toml names."""
    resolves("--python-version", python, f"{wheel}{extra}", folder=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.10", "3.12"])
def test_the_install_resolves_on_a_board(wheel: Path, tmp_path: Path, python: str) -> None:
    """The extra jetson installs on a Jetson (64-bit Arm; JetPack 6: Python 3.10, JetPack 7: 3.12) with the system's NumPy 1."""
    packaging = pytest.importorskip(
        "packaging.requirements", reason="pip itself would read the markers for this Python"
    )
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = re.findall(r"^Requires-Dist: (.+)$", archive.read(name).decode(), re.M)
    found = [packaging.Requirement(line) for line in lines]
    meant = {"python_version": python, "extra": "jetson"}
    words = [f"{r.name}{r.specifier}" for r in found if r.marker is None or r.marker.evaluate(meant)]
    assert len(words) == 5, words
    platforms = [w for tag in ("manylinux_2_28_aarch64", "manylinux2014_aarch64") for w in ("--platform", tag)]
    resolves("--python-version", python, *platforms, "numpy>=1.24,<2", *words, folder=tmp_path)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's clip of two portraits."""
    pytest.importorskip("skimage", reason="the clip is made from the demo extra's portraits")
    from numclip.demo import clip as demo_clip

    made = tmp_path_factory.mktemp("clip") / "clip.mp4"
    demo_clip.write_clip(made)
    return made


def check_run(numclip: Path, clip: Path, folder: Path, env: dict[str, str]) -> None:
    """Check `numclip run` on the clip: every frame has a line, and both faces are found."""
    from numclip.demo import clip as demo_clip

    code, _, said = call(numclip, "run", clip, "--jsonl", "out.jsonl", cwd=folder, env=env)
    assert code == 0, said
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert len(lines) == demo_clip.NUM_FRAMES
    assert sum(len(line["faces"]) == 2 for line in lines) >= 0.9 * len(lines)


WINGS = ("bench", "doctor", "deploy", "server", "web", "bulk", "research")


def test_a_run_needs_no_wing(wheel: Path, clip: Path, tmp_path: Path) -> None:
    """A wheel without the folders of benchmark, doctor, deploy and others still reads the clip."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    for wing in WINGS:
        shutil.rmtree(tmp_path / "site/numclip" / wing, ignore_errors=True)
    numclip = tmp_path / "numclip"
    numclip.write_text(f"#!{sys.executable}\nimport sys\nfrom numclip.cli.main import main\nsys.exit(main())\n")
    numclip.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    _, where, _ = call(sys.executable, "-c", "import numclip; print(numclip.__file__)", cwd=tmp_path, env=env)
    assert where.strip() == str(tmp_path / "site/numclip/__init__.py")

    check_run(numclip, clip, tmp_path, env)


def install(folder: Path, python: str | Path, *words: str | Path) -> Path:
    """Create a new environment of one Python with these packages; returns its bin folder."""
    code, _, said = call(python, "-m", "venv", folder / "venv", env=alone())
    assert code == 0, said
    code, _, said = call(
        folder / "venv/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *words, env=alone()
    )
    assert code == 0, said
    return folder / "venv/bin"


def pythons() -> dict[str, Path]:
    """Return every working interpreter on this machine, by version."""
    found: dict[str, Path] = {}
    for version in PYTHONS:
        beside = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        for candidate in [shutil.which(f"python{version}"), *beside]:
            if candidate is None:
                continue
            code, out, _ = call(
                candidate, "-c", "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])", env=alone()
            )
            if code == 0 and out.strip() == version:
                found.setdefault(version, Path(candidate))
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", PYTHONS)
def test_a_video_on_every_python(wheel: Path, clip: Path, tmp_path: Path, version: str) -> None:
    """A new environment with only the extra `cpu` reads the clip, and its doctor finds no broken package."""
    python = pythons().get(version)
    if python is None:
        pytest.skip(f"no Python {version} runs here")
    bin_folder = install(tmp_path, python, "-c", REPO / "constraints.txt", f"{wheel}[cpu]")
    env = {**alone(), "NUMCLIP_CACHE": str(tmp_path / "cache")}

    check_run(bin_folder / "numclip", clip, tmp_path, env)
    _, out, _ = call(bin_folder / "numclip", "doctor", "--all", env=env)
    assert [row for row in out.splitlines() if row.startswith("PROBLEM")] == [
        row for row in out.splitlines() if row.startswith("PROBLEM  detector yunet")
    ], out


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("opencv", OPENCVS)
def test_the_demo_with_each_opencv(wheel: Path, tmp_path: Path, opencv: str) -> None:
    """In new environments with the oldest OpenCV, the tested one and version 5, `numclip demo` writes its clip, lines and picture."""
    numpy = "numpy<2" if opencv == "4.8" else "numpy>=2"  # the NumPy that this OpenCV was built for
    bin_folder = install(tmp_path, sys.executable, f"opencv-python=={opencv}.*", numpy, f"{wheel}[demo]")
    _, version, _ = call(bin_folder / "python", "-c", "import cv2; print(cv2.__version__)", env=alone())
    assert version.startswith(f"{opencv}.")
    code, _, said = call(
        bin_folder / "numclip", "demo", cwd=tmp_path, env={**alone(), "NUMCLIP_CACHE": str(tmp_path / "c")}
    )
    assert code == 0, said
    lines = [json.loads(line) for line in (tmp_path / "demo.jsonl").read_text().splitlines()]
    assert {face["track"] for line in lines for face in line["faces"]} == {1, 2}
    assert (tmp_path / "demo.mp4").stat().st_size and (tmp_path / "demo.png").stat().st_size


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_video_with_a_board_s_versions(wheel: Path, clip: Path, tmp_path: Path) -> None:
    """The clip is read with JetPack 6's versions (Python 3.10, NumPy 1, OpenCV 4.8) from wheels for this machine."""
    python = pythons().get("3.10")
    if python is None:
        pytest.skip("no Python 3.10 runs here")
    bin_folder = install(tmp_path, python, *BOARD, f"{wheel}[jetson]")

    check_run(bin_folder / "numclip", clip, tmp_path, {**alone(), "NUMCLIP_CACHE": str(tmp_path / "cache")})


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_numpy_too_new_for_the_system_s_opencv(wheel: Path, tmp_path: Path) -> None:
    """NumPy 2 with an OpenCV built for NumPy 1, a common problem on boards, is found, and doctor's command fixes it."""
    python = pythons().get("3.10")
    if python is None:
        pytest.skip("no Python 3.10 runs here")
    bin_folder = install(tmp_path, python, "numpy>=2", "opencv-python==4.8.0.74", "onnxruntime", wheel)
    env = {**alone(), "NUMCLIP_CACHE": str(tmp_path / "cache"), "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    _, out, _ = call("numclip", "doctor", "--all", env=env)
    row, line = re.search(r"^PROBLEM  opencv  .*\n {28}(.*)$", out, re.M), ""
    assert row is not None, out
    line = row[1]
    assert "numpy>=1.24,<2" in line
    _, after, said = call("bash", "-c", f"{line} >&2; numclip doctor --all", env=env)

    assert re.search(r"^ok       opencv  ", after, re.M), after + said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_names_what_is_missing(wheel: Path, clip: Path, tmp_path: Path) -> None:
    """Without extras the error names the extra to install; with `cpu` the demo names its extra; doctor's command restores a corrupt
    model."""
    pinned = ("-c", REPO / "constraints.txt")
    bin_folder = install(tmp_path, sys.executable, *pinned, wheel)
    env = {**alone(), "NUMCLIP_CACHE": str(tmp_path / "cache"), "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    code, _, said = call("numclip", "run", clip, cwd=tmp_path, env=env)
    assert code == 1
    assert "numclip[cpu]" in said
    assert said.count("\n") == 1

    call(bin_folder / "python", "-m", "pip", "install", "-q", *pinned, f"{wheel}[cpu]", env=env)
    code, _, said = call("numclip", "demo", cwd=tmp_path, env=env)
    assert code == 1
    assert 'pip install "numclip[demo]"' in said

    (model,) = (tmp_path / "venv").glob("lib/python3*/site-packages/numclip/runtime/models/age-nano.onnx")
    model.write_bytes(model.read_bytes()[:1000])
    _, out, _ = call("numclip", "doctor", "--all", env=env)
    row = re.search(r"^PROBLEM  model age-nano .*\n {28}(.*)$", out, re.M)
    assert row is not None, out
    _, after, said = call("bash", "-c", f"{row[1]} >&2; numclip doctor --all", env=env)
    assert re.search(r"^ok       model age-nano ", after, re.M), after + said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pipx_runs_it(wheel: Path, tmp_path: Path) -> None:
    """`pipx run --spec WHEEL[cpu] numclip …` installs and runs the command."""
    bin_folder = install(tmp_path, sys.executable, "pipx>=1.7")
    env = {
        **alone(),
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "PIPX_DEFAULT_BACKEND": "pip",
    }
    code, out, said = call(
        bin_folder / "pipx", "run", "--spec", f"{wheel}[cpu]", "numclip", "info", "age-nano", env=env
    )

    assert code == 0, said
    assert "age-nano" in out


def test_the_kit_is_built_from_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheel: Path) -> None:
    """Without --wheel, `numclip deploy` builds the wheel: with the web pages if they are built, and without an old build.

    The checkout is a copy to which a page of each kind, an old build folder and an old wheel were added.
    """
    from numclip.cli.main import main
    from numclip.deploy import kit

    checkout, pages = tmp_path / "checkout", ("server/dist/page/index.html", "web/dist/site/index.html")
    shutil.copytree(REPO, checkout, ignore=shutil.ignore_patterns(*LEFT_OUT, "dist", "docs", "tests"))
    for name in (*pages, "dist/numclip-0.0.1-py3-none-any.whl", "build/lib/numclip/old.py", "web/node_modules/x/x.py"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("x")
    monkeypatch.setattr(kit, "PACKAGE", checkout)

    before = {p.name for p in checkout.iterdir()}
    assert main(["deploy", "jetson", "--out", str(tmp_path / "kit")]) == 0
    assert {p.name for p in checkout.iterdir()} == before
    with zipfile.ZipFile(wheel) as expected, zipfile.ZipFile(tmp_path / "kit" / wheel.name) as made:
        shipped, names = set(expected.namelist()), set(made.namelist())
    assert {f"numclip/{name}" for name in pages} <= names
    assert [n for n in names ^ shipped if "/dist/page/" not in n and "/dist/site/" not in n] == []
