"""Facts about the machine: processor, board and versions, but no names of people or hosts.

Everything is read from files below `root`, so that tests can provide another board's files.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

ROOT = Path("/")
PACKAGES = (
    "numclip",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python",
    "opencv-python-headless",
    "av",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "torch",
)
# L4T release: JetPack
JETPACKS = {
    (36, 4, 0): "6.1",
    (36, 4, 3): "6.2",
    (36, 4, 4): "6.2.1",
    (38, 2, 0): "7.0",
    (38, 4, 0): "7.1",
    (39, 2, 0): "7.2",
}


class Environment(TypedDict):
    """The facts that a benchmark's figures depend on."""

    cpu: str
    cores: int
    board: str | None
    jetpack: str | None
    nvidia_driver: str | None
    memory_gb: float | None
    system: str
    python: str
    versions: dict[str, str]


@dataclass(frozen=True)
class L4T:
    """A release of NVIDIA's Linux for Tegra."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def jetpack(self) -> str:
        """The JetPack release that it belongs to: its number if known, else the major number, else `unknown`."""
        known = JETPACKS.get((self.major, self.minor, self.patch))
        return known or {35: "5", 36: "6", 38: "7", 39: "7"}.get(self.major, "unknown")


@dataclass(frozen=True)
class PowerModes:
    """The power mode of a Jetson (nvpmodel), and the modes that the board has."""

    current: str  # the mode's number
    names: dict[str, str]  # number: name

    @property
    def name(self) -> str:
        """The current mode's name, or its number if the board's table does not name it."""
        return self.names.get(self.current, f"mode {self.current}")

    @property
    def strongest(self) -> str | None:
        """The number of the mode without limits. It is not the highest number: on Orin Nano it is 2, on AGX Orin 0."""
        return next((number for number, name in self.names.items() if name.startswith("MAXN")), None)


def environment(root: Path = ROOT) -> Environment:
    """Processor, cores, memory, system and versions."""
    release = l4t(root)
    return {
        "cpu": _cpu(root),
        "cores": os.cpu_count() or 1,
        "board": read_line(root / "proc/device-tree/model"),
        "jetpack": None if release is None else f"{release.jetpack} (L4T {release})",
        "nvidia_driver": read_line(root / "proc/driver/nvidia/version"),
        "memory_gb": _memory_gb(root),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": installed(PACKAGES),
    }


def l4t(root: Path = ROOT) -> L4T | None:
    """The L4T release of a Jetson, from a line such as `# R36 (release), REVISION: 4.3, …`; None on other machines."""
    text = read_line(root / "etc/nv_tegra_release") or ""
    found = re.match(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*(\d+)(?:\.(\d+))?", text)
    return None if found is None else L4T(int(found[1]), int(found[2]), int(found[3] or 0))


def is_jetson(root: Path = ROOT) -> bool:
    """Whether this is an NVIDIA Jetson: its L4T release file exists."""
    return l4t(root) is not None


def power_modes(root: Path = ROOT) -> PowerModes | None:
    """The power modes of nvpmodel; None if the machine has no nvpmodel."""
    status = re.search(r"\d+", read_line(root / "var/lib/nvpmodel/status") or "")
    if status is None:
        return None
    table = read_text(root / "etc/nvpmodel.conf") or ""
    names = dict(re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=([^\s>]+)\s*>", table))
    return PowerModes(str(int(status[0])), names)


def installed(names: Iterable[str]) -> dict[str, str]:
    """The versions of those of the given packages that are installed."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def resident_mb() -> float:
    """The resident memory of this process in MB (Linux; 0 if it cannot be read)."""
    found = re.search(r"^VmRSS:\s+(\d+)", read_text(Path("/proc/self/status")) or "", re.M)
    return int(found[1]) / 1024 if found else 0.0


def _cpu(root: Path) -> str:
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", read_text(root / "proc/cpuinfo") or "", re.M)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _memory_gb(root: Path) -> float | None:
    found = re.search(r"^MemTotal:\s+(\d+) kB", read_text(root / "proc/meminfo") or "", re.M)
    return round(int(found[1]) / 1024**2, 1) if found else None


def read_line(path: Path) -> str | None:
    """The first line of a small system file, without its closing zero byte; None if it is empty or cannot be read."""
    lines = (read_text(path) or "").strip().strip("\0").splitlines()
    return lines[0].strip() if lines else None


def read_text(path: Path) -> str | None:
    """The text of a small system file; None if it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None
