"""The NVIDIA GPU of this machine, as its driver reports it, and the few CUDA calls that an engine needs, through cuda-python.

Nothing is imported here until a GPU or an engine is used.
"""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import dataclass
from typing import Any

from ...errors import DeviceError
from ..system import is_jetson

_INTEGRATED, _MAJOR, _MINOR = 18, 75, 76  # CUdevice_attribute in cuda.h


@dataclass(frozen=True)
class Card:
    """An NVIDIA GPU, as its driver reports it."""

    name: str
    compute_capability: str  # "8.6"
    integrated: bool  # whether it shares its memory with the CPU, as on a Jetson
    memory_mb: int
    driver: str  # the newest CUDA that the driver runs: "13.0"


def find_card() -> Card | None:
    """The first GPU, from the driver's own library; None without a driver or a GPU."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    name, size, version = ctypes.create_string_buffer(256), ctypes.c_size_t(), ctypes.c_int()
    device, integrated, major, minor = (ctypes.c_int() for _ in range(4))
    asked = (
        driver.cuInit(0),
        driver.cuDeviceGet(ctypes.byref(device), 0),
        driver.cuDeviceGetName(name, len(name), device),
        driver.cuDeviceTotalMem_v2(ctypes.byref(size), device),
        driver.cuDriverGetVersion(ctypes.byref(version)),
        driver.cuDeviceGetAttribute(ctypes.byref(integrated), _INTEGRATED, device),
        driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
    )
    if any(asked):
        return None
    return Card(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major.value}.{minor.value}",
        integrated=bool(integrated.value),
        memory_mb=size.value // 2**20,
        driver=cuda_version(version.value),
    )


def card() -> Card:
    """The first GPU; raises DeviceError if there is none."""
    found = find_card()
    if found is None:
        raise DeviceError("device tensorrt: needs an NVIDIA GPU and its driver, found none; use --device cpu")
    return found


def free_memory_mb() -> int:
    """The free memory of the GPU, in MB."""
    free, _ = checked(import_cudart().cudaMemGetInfo())
    return int(free) // 2**20


def runtime_version() -> str:
    """The CUDA version that cuda-python uses, such as "13.0"."""
    return cuda_version(int(checked(import_cudart().cudaRuntimeGetVersion())))


def cuda_version(number: int) -> str:
    """13000 as "13.0"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def import_cudart() -> Any:
    """The runtime API of cuda-python; raises DeviceError with the command that installs it."""
    for name in ("cuda.bindings.runtime", "cuda.cudart"):  # cuda-python 12.6 and later, and before
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    extra = "jetson" if is_jetson() else "tensorrt"
    raise DeviceError(
        f'device tensorrt: needs the package cuda-python, which is not installed; run: pip install "numclip[{extra}]", '
        "or use --device cpu"
    )


def checked(answer: Any) -> Any:
    """The value of a CUDA call, whose first part is its error code; raises DeviceError unless the call succeeded."""
    code, *values = answer
    if int(code) != 0:
        raise DeviceError(
            f"CUDA failed with {code.name} ({int(code)}); check the driver with nvidia-smi, or use --device cpu"
        )
    return values[0] if len(values) == 1 else tuple(values)
