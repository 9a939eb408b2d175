"""Checks of devices: each runs the shipped model; a GPU that exists but does not run it is a problem."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import DeviceError, NumclipError
from ..runtime.sessions.cuda_device import Card, find_card, import_cudart
from ..runtime.system import L4T, installed, is_jetson, l4t
from .finding import Finding, pip
from .packages import cuda_python, hidden_from_here, open_environment

GPU_DEVICES = ("cuda", "tensorrt")
PROVIDER_LIBRARIES = {"cuda": "libonnxruntime_providers_cuda.so", "tensorrt": "libonnxruntime_providers_tensorrt.so"}


def checks() -> Iterator[Finding]:
    """The GPU, TensorRT, then every device."""
    gpu = find_card()
    yield Finding("gpu", True, f"{gpu.name}, {gpu.memory_mb} MB, CUDA {gpu.driver}" if gpu else "no NVIDIA driver")
    yield tensorrt(gpu)
    yield from devices(gpu)


def tensorrt(gpu: Card | None) -> Finding:
    """Whether TensorRT and its cuda-python can be imported; they run .engine files, so they are not needed without a GPU."""
    if hidden_from_here("tensorrt"):
        return Finding(
            "tensorrt", False, "installed on the system, but hidden from this virtual environment", open_environment()
        )
    if importlib.util.find_spec("tensorrt") is None:
        said = "not installed; only .engine files need it"
        fix = (
            "sudo apt-get install -y python3-libnvinfer" if is_jetson() else pip("install", "tensorrt") if gpu else None
        )
        return Finding("tensorrt", not is_jetson(), said, fix)
    try:
        module = importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        return Finding(
            "tensorrt", False, f"does not load: {error}", "sudo apt-get install -y libnvinfer-bin python3-libnvinfer"
        )
    version = str(getattr(module, "__version__", "loads"))
    if (reason := unfit_for_board(version, l4t())) is not None:
        return Finding("tensorrt", False, f"{version}: {reason}", pip("uninstall", "-y", "tensorrt"))
    if gpu is not None or is_jetson():
        try:
            import_cudart()
        except DeviceError:
            said = f"{version}, but cuda-python, which engines also need, does not load"
            return Finding("tensorrt", False, said, pip("install", cuda_python()))
    return Finding("tensorrt", True, version)


def unfit_for_board(version: str, release: L4T | None) -> str | None:
    """Why this TensorRT cannot run on a Jetson of that release; None if it can, or on other machines.

    JetPack 6.1 to 7.2 contain TensorRT 10; of TensorRT 11 only 11.4.1 and newer support Jetson, from JetPack 7.2.2 on.
    """
    number = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if release is None or number < (11,):
        return None
    if number < (11, 4, 1):
        return "TensorRT 11 before 11.4.1 does not support Jetson; without it, JetPack's own is used"
    if release.major < 39:
        return "TensorRT 11.4.1 and newer need JetPack 7.2.2; without it, JetPack's own is used"
    return None


def devices(gpu: Card | None) -> Iterator[Finding]:
    """Every device of --device: whether the shipped model runs there, or why not."""
    from ..runtime.sessions.session import DEVICES

    for device in DEVICES:
        if device == "auto":
            continue
        reason = _reason_not_to_run(device)
        if reason is None:
            yield Finding(f"device {device}", True, "runs the model")
        elif device == "cpu":
            yield Finding(
                "device cpu", False, reason, pip("install", "--force-reinstall", "--no-deps", "onnxruntime>=1.17")
            )
        elif device in GPU_DEVICES and gpu is not None and not is_jetson():
            library = _missing_library(device)
            said = f"{reason} (missing: {library})" if library else reason
            yield Finding(f"device {device}", device != "cuda", said, _gpu_line(library))
        else:
            yield Finding(f"device {device}", True, f"not available: {reason}")


def _reason_not_to_run(device: str) -> str | None:
    """Run the shipped model on the device; returns None if that works, else the error message."""
    import numpy as np

    from ..runtime.sessions.model import load

    try:
        with load("age-nano", device, 1) as model:
            side = model.spec.crop.side
            model(np.zeros((1, side, side, 3), np.uint8))
    except NumclipError as error:
        return str(error)
    return None


def _missing_library(device: str) -> str | None:
    """The shared library that the provider needs and does not find; ONNX Runtime does not report its name."""
    spec = importlib.util.find_spec("onnxruntime")
    folder = Path(spec.origin).parent / "capi" if spec is not None and spec.origin else Path()
    provider = folder / PROVIDER_LIBRARIES.get(device, "")
    if not provider.is_file():
        return None
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(provider))
    except OSError as error:
        return str(error).partition(":")[0]
    return None


def _gpu_line(library: str | None) -> str:
    """The command that replaces the CPU build with the GPU build, or installs the missing CUDA libraries."""
    if library is not None and installed(["onnxruntime-gpu"]):
        return pip("install", "onnxruntime-gpu[cuda,cudnn]>=1.21")
    return " && ".join([pip("uninstall", "-y", "onnxruntime"), pip("install", "onnxruntime-gpu[cuda,cudnn]>=1.21")])
