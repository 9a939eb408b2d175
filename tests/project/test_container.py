"""The container image's steps in a Debian root file system: the demo runs unprivileged, without network, with a read-only root.

Docker's engine and its base image are not needed: mmdebstrap makes the base, and bubblewrap runs each step of the Dockerfile.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
MOST_MB = 350
UNPRIVILEGED = 10001


@dataclass
class Stage:
    """One FROM stage of a Dockerfile, after its steps."""

    root: Path
    env: dict[str, str] = field(default_factory=dict[str, str])
    user: str = "0"
    folder: str = "/"
    entry: list[str] = field(default_factory=list[str])
    words: list[str] = field(default_factory=list[str])


def steps_of(text: str) -> list[tuple[str, str]]:
    """Return (instruction, arguments) of each step, without comments and with continued lines joined."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines() if line.strip()]


def pip_settings() -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return this machine's pip settings as environment variables, and the files they need: (path here, path in the image)."""
    asked = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    env = {
        "PIP_" + name.upper().replace("-", "_"): value.strip("'")
        for name, value in re.findall(r"^(?:global|:env:)\.([\w-]+)=(.*)$", listed, re.M)
    }
    needed = [("/etc/resolv.conf", "/etc/resolv.conf")]
    if "PIP_CERT" in env:  # another path, because the image's certificate package writes to this one
        needed.append((env["PIP_CERT"], "/mnt/certificates.crt"))
        env["PIP_CERT"] = "/mnt/certificates.crt"
    paths = {word.removeprefix("file://") for value in env.values() for word in value.split()}
    folders = {
        re.sub(r"/simple/?$", "", path) for path in paths if path.startswith("/") and path != "/mnt/certificates.crt"
    }
    needed += [(path, path) for path in sorted(folders)]
    return env, [(here, there) for here, there in needed if Path(here).exists()]


def build_step(stage: Stage, command: str, settings: tuple[dict[str, str], list[tuple[str, str]]]) -> None:
    """RUN: run the command as root in the stage, with network."""
    env, paths = settings
    words = ["bwrap", "--bind", str(stage.root), "/", "--dev", "/dev", "--proc", "/proc", "--cap-add", "ALL"]
    words += ["--perms", "1777", "--tmpfs", "/tmp"]
    words += [w for here, there in paths for w in ("--ro-bind", here, there)]
    words += ["--clearenv", *(w for name, value in (stage.env | env).items() for w in ("--setenv", name, value))]
    if "PATH" not in stage.env:
        words += ["--setenv", "PATH", "/usr/sbin:/usr/bin:/sbin:/bin"]
    done = subprocess.run([*words, "sh", "-c", command], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def copy_step(stage: Stage, words: list[str], stages: dict[str, Stage]) -> None:
    """COPY: copy from another stage, or from the checkout without the files in .dockerignore."""
    flags, (source, target) = [w for w in words if w.startswith("--")], [w for w in words if not w.startswith("--")]
    if flags:
        shutil.copytree(stages[flags[0].partition("=")[2]].root / source[1:], stage.root / target[1:], symlinks=True)
        return
    assert source == "."
    left_out = [line.removeprefix("**/") for line in (REPO / ".dockerignore").read_text().split()]
    shutil.copytree(REPO, stage.root / target[1:], ignore=shutil.ignore_patterns(*left_out), symlinks=True)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The last stage of the Dockerfile, built."""
    for tool in ("mmdebstrap", "bwrap"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (Debian: apt-get install mmdebstrap bubblewrap)")
    if os.geteuid() != 0:
        pytest.skip("the image is built as root")
    folder, stages, settings = tmp_path_factory.mktemp("image"), dict[str, Stage](), pip_settings()
    base = folder / "base"
    made = subprocess.run(
        ["mmdebstrap", "--variant=minbase", "bookworm", base], capture_output=True, text=True, timeout=900
    )
    if made.returncode != 0:
        pytest.skip(f"Debian's packages cannot be fetched: {made.stderr[-300:]}")
    stage = Stage(base)
    for number, (what, rest) in enumerate(steps_of((REPO / "Dockerfile").read_text())):
        if what == "FROM":
            assert rest.startswith("debian:bookworm-slim")
            stage = Stage(folder / f"stage-{number}")
            stages[rest.partition(" AS ")[2]] = stage
            subprocess.run(["cp", "-a", base, stage.root], check=True)
        elif what == "RUN":
            build_step(stage, rest, settings)
        elif what == "COPY":
            copy_step(stage, rest.split(), stages)
        elif what == "ENV":
            stage.env |= dict(word.split("=", 1) for word in shlex.split(rest))
        elif what == "USER":
            stage.user = rest
        elif what == "WORKDIR":
            stage.folder = rest
            (stage.root / rest[1:]).mkdir(exist_ok=True)
        elif what == "ENTRYPOINT":
            stage.entry = json.loads(rest)
        else:
            assert what == "CMD", f"unknown instruction: {what}"
            stage.words = json.loads(rest)
    return stage


def inside(image: Stage, work: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the image: read-only root, no network, the image's user; only /results is writable."""
    box = [
        "bwrap",
        "--ro-bind",
        str(image.root),
        "/",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--bind",
        str(work),
        image.folder,
    ]
    box += ["--unshare-all", "--uid", image.user, "--gid", image.user, "--chdir", image.folder, "--clearenv"]
    box += [w for name, value in image.env.items() for w in ("--setenv", name, value)]
    return subprocess.run([*box, *words], capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_demo_runs_in_the_image(image: Stage, tmp_path: Path) -> None:
    """Both portraits get an age in at least 90 % of the frames; the root is read-only, and there is no network."""
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(0o777)
    assert int(image.user) == UNPRIVILEGED
    done = inside(image, work, *image.entry, *image.words)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (work / "demo.jsonl").read_text().splitlines()]
    assert sum(len(line.get("faces", [])) == 2 for line in lines) >= 0.9 * len(lines) > 0
    assert (work / "demo.mp4").stat().st_size > 10_000
    assert inside(image, work, "sh", "-c", "id -u").stdout.strip() == image.user
    assert "Read-only file system" in inside(image, work, "sh", "-c", "echo > /opt/numclip/x").stderr
    reach = "import socket; socket.create_connection(('192.0.2.1', 80), 3)"
    assert "Network is unreachable" in inside(image, work, "python3", "-c", reach).stderr


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_image_is_small(image: Stage, tmp_path: Path) -> None:
    """The compressed image, as stored in a registry, is under 350 MB."""
    packed = tmp_path / "image.tar.gz"
    with tarfile.open(packed, "w:gz", compresslevel=6) as archive:
        archive.add(image.root, arcname="/", filter=lambda member: None if member.isdev() else member)
    unpacked = sum(p.lstat().st_size for p in image.root.rglob("*") if not p.is_dir() or p.is_symlink())
    print(f"compressed {packed.stat().st_size / 1e6:.0f} MB, unpacked {unpacked / 1e6:.0f} MB")
    assert packed.stat().st_size < MOST_MB * 1e6


def test_a_step_is_read_whole() -> None:
    """Continued lines are one step, comments are none, and an unknown instruction fails the build above."""
    text = "# a comment\nFROM debian:bookworm-slim AS build\n# hadolint ignore=DL3008\nRUN a \\\n    && b\nUSER 10001\n"
    assert steps_of(text) == [("FROM", "debian:bookworm-slim AS build"), ("RUN", "a && b"), ("USER", "10001")]
