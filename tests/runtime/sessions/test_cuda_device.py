"""The GPU is read through the C functions of NVIDIA's driver library; without a driver there is none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from numclip.runtime.sessions.cuda_device import cuda_version, find_card

# The driver's functions as declared in cuda.h, for a GPU with known properties.
DRIVER = r"""
#include <string.h>
#include <stddef.h>
typedef int CUdevice;
int cuInit(unsigned int flags) { return flags ? 1 : RESULT; }
int cuDeviceGet(CUdevice *device, int ordinal) { *device = 7; return ordinal; }
int cuDeviceGetName(char *name, int length, CUdevice device) {
    strncpy(name, "NVIDIA Thor", length); return device != 7; }
int cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) { *bytes = 128ull << 30; return device != 7; }
int cuDriverGetVersion(int *version) { *version = 13020; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
    *value = attribute == 18 ? 1 : attribute == 75 ? 11 : attribute == 76 ? 0 : -1; return device != 7; }
"""


def card_seen(folder: Path, result: int) -> str:
    """Return find_card's result in a process with the libcuda.so.1 above and this result of cuInit."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler on Linux")
    (folder / "driver.c").write_text(DRIVER)
    build = [compiler, "-shared", "-fPIC", f"-DRESULT={result}", "-o", "libcuda.so.1", "driver.c"]
    subprocess.run(build, cwd=folder, check=True)
    code = "from numclip.runtime.sessions.cuda_device import find_card; print(find_card())"
    environment = {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": ":".join(p for p in sys.path if p)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_card_is_read(tmp_path: Path) -> None:
    """Name, capability, shared memory, size and newest CUDA version equal the driver's values."""
    assert card_seen(tmp_path, 0) == (
        "Card(name='NVIDIA Thor', compute_capability='11.0', integrated=True, memory_mb=131072, driver='13.2')"
    )


def test_a_driver_without_a_card(tmp_path: Path) -> None:
    """CUDA's error 100, no device, means no GPU."""
    assert card_seen(tmp_path, 100) == "None"


def test_this_machine() -> None:
    """On this machine the result is None, or a GPU with name, memory and capability."""
    card = find_card()
    assert card is None or (card.name and card.memory_mb > 0 and card.compute_capability[0].isdigit())


def test_versions() -> None:
    """CUDA's version numbers are parsed."""
    assert [cuda_version(n) for n in (12060, 13000, 11080)] == ["12.6", "13.0", "11.8"]
