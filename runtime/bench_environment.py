"""The machine a benchmark ran on: what decides its figures, and nothing that names a person or host."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = (
    "numclip",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python",
    "opencv-python-headless",
    "av",
    "torch",
)
GEMM_SIDE, COPY_BYTES, PEAK_REPEATS = 1024, 1 << 27, 7


def environment() -> dict[str, Any]:
    """Processor, cores, memory, system, versions, and how busy the machine was."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "governor": _line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "board": _line("/proc/device-tree/model"),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def state() -> dict[str, Any]:
    """What changes during a run: load, clock and temperature now; null where this machine does not tell."""
    clock = _line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    zones = [t for z in sorted(Path("/sys/class/thermal").glob("thermal_zone*")) if (t := _line(z / "temp"))]
    return {
        "load_1min": round(os.getloadavg()[0], 2),
        "clock_mhz": round(int(clock) / 1000) if clock else None,
        "temperature_c": max((int(t) / 1000 for t in zones), default=None),
        "rss_mb": round(resident_mb(), 1),
    }


def resident_mb() -> float:
    """Memory of this process that is in use, MB (Linux; 0 where it cannot be read)."""
    for line in (_text("/proc/self/status") or "").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def peaks() -> dict[str, float]:
    """What this machine reaches at best, all cores: a float32 matrix product in GFLOP/s and a memory copy in GB/s."""
    a = np.ones((GEMM_SIDE, GEMM_SIDE), np.float32)
    source, target = (np.ones(COPY_BYTES // 4, np.float32) for _ in range(2))
    product_s = _fastest(lambda: a @ a)
    copy_s = _fastest(lambda: np.copyto(target, source))
    return {
        "gemm_gflops": round(2 * GEMM_SIDE**3 / product_s / 1e9, 1),
        "copy_gb_s": round(2 * COPY_BYTES / copy_s / 1e9, 1),
    }


def _fastest(work: Callable[[], object]) -> float:
    times: list[float] = []
    for _ in range(PEAK_REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def _cpu() -> str:
    for line in (_text("/proc/cpuinfo") or "").splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    for line in (_text("/proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) / 1024**2, 1)
    return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _line(path: str | Path) -> str | None:
    text = _text(path)
    return text.strip().strip("\0") if text else None


def _text(path: str | Path) -> str | None:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None
