"""CUDA through cuda-python, as little of it as an engine needs. Nothing here is imported where there is no engine."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DeviceError


@dataclass(frozen=True)
class Card:
    """The NVIDIA GPU of this machine."""

    name: str
    compute_capability: str  # "8.6"
    integrated: bool  # shares its memory with the CPU, as on a Jetson
    driver: str
    cuda: str
    free_mb: int


def import_cudart() -> Any:
    """cuda-python's runtime API; raises DeviceError with the line to type."""
    for name in ("cuda.bindings.runtime", "cuda.cudart"):  # cuda-python 12.6 and later, and before
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise DeviceError(
        'device tensorrt: expected the package cuda-python, it is not installed; pip install "numclip[tensorrt]", or say --device cpu'
    )


def checked(answer: Any) -> Any:
    """The value of a CUDA call, whose first part is its error code; raises DeviceError for any but success."""
    code, *values = answer
    if int(code) != 0:
        raise DeviceError(
            f"CUDA answered {code.name} ({int(code)}); check the driver with nvidia-smi, or say --device cpu"
        )
    return values[0] if len(values) == 1 else tuple(values)


def card() -> Card:
    """The first card; raises DeviceError where CUDA finds none."""
    cudart = import_cudart()
    try:
        count = checked(cudart.cudaGetDeviceCount())
        if count < 1:
            raise DeviceError("device tensorrt: expected an NVIDIA GPU, CUDA finds none; say --device cpu")
        properties = checked(cudart.cudaGetDeviceProperties(0))
        free, _ = checked(cudart.cudaMemGetInfo())
        driver, runtime = checked(cudart.cudaDriverGetVersion()), checked(cudart.cudaRuntimeGetVersion())
    except RuntimeError as error:  # the bindings' own, where the driver's library is not there
        reason = str(error).splitlines()[0][:150]
        raise DeviceError(f"device tensorrt: expected an NVIDIA driver ({reason}); say --device cpu") from None
    return Card(
        name=bytes(properties.name).split(b"\0")[0].decode()
        if not isinstance(properties.name, str)
        else properties.name,
        compute_capability=f"{properties.major}.{properties.minor}",
        integrated=bool(properties.integrated),
        driver=_cuda_version(driver),
        cuda=_cuda_version(runtime),
        free_mb=int(free) // 2**20,
    )


def jetpack() -> str | None:
    """The L4T release of a Jetson, as `R36.4`; None elsewhere."""
    try:
        text = Path("/etc/nv_tegra_release").read_text(errors="replace")
    except OSError:
        return None
    found = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", text)
    return f"R{found[1]}.{found[2]}" if found else text.splitlines()[0][:40]


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
