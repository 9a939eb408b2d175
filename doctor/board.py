"""Checks of the board. On a Jetson: model, L4T and JetPack, power mode, clocks, and memory for building an engine.

Everything is read from files below `root`, so that tests can provide another board's files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..runtime.system import ROOT, l4t, power_modes, read_line, read_text
from .finding import Finding

OLDEST_L4T = (36, 4)  # JetPack 6.1: TensorRT 10.3, CUDA 12.6, Python 3.10
# Memory and swap together; an estimate, because on small boards TensorRT's builder is killed first.
NEEDED_BUILD_GB = 6.0
SWAP_LINE = (
    "sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile"
)


def checks(root: Path = ROOT) -> Iterator[Finding]:
    """The board's model, then its software, power, clocks and memory."""
    release = l4t(root)
    if release is None:
        yield Finding("board", True, "not a Jetson")
        return
    yield Finding("board", True, read_line(root / "proc/device-tree/model") or "a Jetson of unknown model")
    ok = (release.major, release.minor) >= OLDEST_L4T
    said = f"L4T {release}, JetPack {release.jetpack}"
    upgrade = "sudo apt-get update && sudo apt-get dist-upgrade" if release.major == OLDEST_L4T[0] else None
    yield Finding(
        "jetpack",
        ok,
        said if ok else f"{said}; numclip needs JetPack 6.1 or newer",
        upgrade if not ok else None,
    )
    yield power_mode(root)
    yield clocks(root)
    yield memory(root)


def power_mode(root: Path = ROOT) -> Finding:
    """The power mode, and the command for the strongest one; a weaker mode is a choice, not a problem."""
    modes = power_modes(root)
    if modes is None:
        return Finding("power mode", True, "unknown", "sudo nvpmodel -q")
    if modes.strongest is None or modes.strongest == modes.current:
        return Finding("power mode", True, modes.name)
    said = f"{modes.name}; the strongest is {modes.names[modes.strongest]}"
    return Finding("power mode", True, said, f"sudo nvpmodel -m {modes.strongest}")


def clocks(root: Path = ROOT) -> Finding:
    """Whether GPU and CPU clocks are locked to one frequency, as jetson_clocks does; otherwise timings vary."""
    pairs = [(p / "min_freq", p / "max_freq") for p in _gpus(root)]
    cpus = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    pairs += [(p / "scaling_min_freq", p / "scaling_max_freq") for p in cpus]
    ranges = [(read_line(low), read_line(high)) for low, high in pairs]
    if not ranges or None in ranges[0]:
        return Finding("clocks", True, "unknown", "sudo jetson_clocks --show")
    if all(low == high for low, high in ranges):
        return Finding("clocks", True, "locked")
    return Finding("clocks", True, "not locked: latency varies with the load", "sudo jetson_clocks")


def _gpus(root: Path) -> list[Path]:
    return sorted(p for p in (root / "sys/class/devfreq").glob("*") if re.search(r"gpu|ga10b|gp10b|gv11b", p.name))


def memory(root: Path = ROOT) -> Finding:
    """Memory and swap, including zram: a build that is killed without a message has run out of both."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", read_text(root / "proc/meminfo") or "", re.M)
    if found is None:
        return Finding("memory", True, "unknown")
    rows = (read_text(root / "proc/swaps") or "").splitlines()[1:]
    swaps = [(row.split()[0], int(row.split()[2]) / 1024**2) for row in rows if len(row.split()) >= 3]
    zram, disk = (sum(gb for name, gb in swaps if ("zram" in name) == z) for z in (True, False))
    total = int(found[1]) / 1024**2
    ok = total + zram / 2 + disk >= NEEDED_BUILD_GB  # zram is part of the memory that it extends: half of it counts
    said = f"{total:.1f} GB, swap {disk:.1f} GB, zram {zram:.1f} GB"
    return Finding(
        "memory",
        ok,
        said if ok else f"{said}; building an engine may run out of memory and be killed",
        None if ok else SWAP_LINE,
    )
