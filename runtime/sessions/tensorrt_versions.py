"""The differences between TensorRT versions, in one place.

Supported are TensorRT 10.3 and later (JetPack 6.1+), 11 (JetPack 7), and TensorRT-RTX 1, which has the same Python API, compiles
ahead of time without a GPU, and whose engines only TensorRT-RTX runs. Every network is strongly typed: version 10 needs a flag
for that, 11 and RTX know nothing else. Older versions choose precisions by themselves, which has silently ruined CLIP models.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from typing import Any

from ...errors import DeviceError

PACKAGES = ("tensorrt", "tensorrt_rtx")
OLDEST = (10, 3)
RTX_TARGETS = (75, 80, 86, 89, 120)  # compute capabilities that TensorRT-RTX compiles for, times ten


def find_tensorrt() -> str | None:
    """The installed package, TensorRT before TensorRT-RTX; None if there is none. Nothing is imported."""
    return next((name for name in PACKAGES if importlib.util.find_spec(name) is not None), None)


def import_tensorrt(name: str | None = None) -> Any:
    """Import TensorRT (or the package `name`); raises DeviceError with what is missing or too old, and the command that installs it."""
    name = name or find_tensorrt()
    if name is None or importlib.util.find_spec(name) is None:
        raise DeviceError(
            f"needs the package {name or 'tensorrt'}, which is not installed; run: pip install {name or 'tensorrt'} "
            '"numclip[tensorrt]" (on a Jetson TensorRT is a system package: python -m venv --system-site-packages)'
        )
    try:
        trt = importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise DeviceError(
            f"the package {name} does not load ({reason}); install its libraries: pip install {name}"
        ) from None
    check_version(name, trt.__version__)
    return trt


def check_version(name: str, version: str) -> None:
    """Raise DeviceError for a TensorRT that is too old."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if name == "tensorrt" and numbers < OLDEST:
        raise DeviceError(
            f"expected TensorRT {OLDEST[0]}.{OLDEST[1]} or newer, got {version}, which would choose precisions by itself; "
            "update to JetPack 6.1 or newer, or use --device cuda"
        )


def quiet_logger(trt: Any) -> Any:
    """A logger that collects errors in its list `errors` and prints nothing."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(" ".join(msg.split()))

    return Logger()


def is_rtx(trt: Any) -> bool:
    """Whether a module is TensorRT-RTX."""
    return trt.__name__ == "tensorrt_rtx"


def new_network(trt: Any, builder: Any) -> Any:
    """A strongly typed network: by the flag in version 10; later versions accept the flag and ignore it."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return builder.create_network(0 if flag is None else 1 << int(flag))


def set_portability(trt: Any, config: Any, *, versions: bool, hardware: bool, targets: tuple[int, ...]) -> list[str]:
    """Request engines that run with later versions, on newer GPUs, or on GPUs of other machines; returns the flags that were set."""
    said: list[str] = []
    if versions:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        said.append("version-compatible")
    if hardware:
        if is_rtx(trt):
            raise DeviceError(
                "--hardware-compatible works with TensorRT only; with TensorRT-RTX name the compute capabilities, such "
                "as --targets 86,89"
            )
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        said.append("hardware-compatible")
    if targets:
        if not is_rtx(trt):
            raise DeviceError(
                "--targets works with TensorRT-RTX only; leave --targets out to build for this machine's GPU, or run: "
                "pip install tensorrt-rtx"
            )
        unknown = sorted(set(targets) - set(RTX_TARGETS))
        if unknown:
            raise DeviceError(f"expected --targets among {', '.join(map(str, RTX_TARGETS))}, got {unknown[0]}")
        config.num_compute_capabilities = len(targets)
        for at, target in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{target}"), at)
    return said


def use_full_float32(trt: Any, config: Any) -> None:
    """Compute float32 products in full precision instead of TF32, whose ten-bit mantissa costs tenths of a year."""
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)
