"""Checks of Python and the packages. The most common broken installation has two packages that overwrite each other's files."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from ..runtime.system import installed, is_jetson
from .finding import Finding, pip

RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
OPENCVS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
NEEDED = {"numpy": "numpy>=1.24", "av": "av>=12", "tqdm": "tqdm>=4.60"}  # as in pyproject.toml
ONNXRUNTIME, OPENCV, HEADLESS = "onnxruntime>=1.17", "opencv-python>=4.8", "opencv-python-headless>=4.8"
# As in the extras tensorrt and jetson; a Jetson's must not be newer than its CUDA: JetPack 6 has Python 3.10 and CUDA 12.6.
CUDA_PYTHON = "cuda-python>=12.6"
JETPACK6_CUDA_PYTHON = "cuda-python>=12.6,<12.7"
JETPACK7_CUDA_PYTHON = "cuda-python>=13.0,<13.1"
OLD_NUMPY = "numpy>=1.24,<2"
OPENCV_OF_YUNET = (4, 8)  # older ones cannot run the 2023 YuNet
SYSTEM_OPENCV = "sudo apt-get install -y libopencv-python"  # JetPack's own build, with GStreamer


def checks() -> Iterator[Finding]:
    """Python, then each package, then how OpenCV was built."""
    yield python()
    for module, requirement in NEEDED.items():
        yield needed(module, requirement)
    yield onnxruntime()
    found = opencv()
    yield found
    if found.ok:
        yield opencv_parts()


def python() -> Finding:
    """Whether Python is new enough, and whether it is a virtual environment."""
    ok = sys.version_info >= (3, 10)
    kind = "virtual environment" if sys.prefix != sys.base_prefix else "system-wide"
    return Finding("python", ok, f"{platform.python_version()}, {kind}", None if ok else "sudo apt-get install python3")


def needed(module: str, requirement: str) -> Finding:
    """Whether a required package loads."""
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        return Finding(module, False, f"does not load: {error}", pip("install", requirement))
    return Finding(module, True, str(getattr(loaded, "__version__", "loads")))


def onnxruntime() -> Finding:
    """Whether exactly one ONNX Runtime is installed. TensorRT does not replace it: engines are verified against it."""
    here = installed(RUNTIMES)
    if len(here) > 1:
        keep = "onnxruntime-gpu>=1.17" if Path("/dev/nvidiactl").exists() else ONNXRUNTIME
        return _clash("onnxruntime", here, keep)
    try:
        importlib.import_module("onnxruntime")
    except ImportError as error:
        return Finding("onnxruntime", False, _does_not_load(here, error), pip("install", ONNXRUNTIME))
    return Finding("onnxruntime", True, _said(here))


def opencv() -> Finding:
    """Whether exactly one OpenCV is installed, loads, and is new enough for YuNet."""
    here = installed(OPENCVS)
    if len(here) > 1:
        return _clash("opencv", here, OPENCV)
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError as error:
        if here and "libGL" in str(error):  # a server without a screen: the build without windows needs no libGL
            lines = [pip("uninstall", "-y", *here), pip("install", HEADLESS)]
            return Finding("opencv", False, _does_not_load(here, error), " && ".join(lines))
        if "numpy" in str(error):  # an OpenCV built for NumPy 1, such as JetPack's, with a newer NumPy
            return Finding("opencv", False, _does_not_load(here, error), pip("install", OLD_NUMPY))
        return Finding("opencv", False, _does_not_load(here, error), _opencv_line())
    version = str(getattr(cv2, "__version__", "0"))
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OPENCV_OF_YUNET:
        said = f"{version} cannot run YuNet, which needs 4.8 or newer"
        return Finding("opencv", False, said, pip("install", "--upgrade", OPENCV))
    return Finding("opencv", True, _said(here, version))


def opencv_parts() -> Finding:
    """What this OpenCV was built with; on a Jetson the cameras need GStreamer, elsewhere every build is fine."""
    import cv2

    info = cv2.getBuildInformation()
    parts = {name: _built_with(info, name) for name in ("FFMPEG", "GStreamer", "GUI")}
    said = ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in parts.items())
    if is_jetson() and not parts["GStreamer"]:
        here = installed(OPENCVS)
        fix = " && ".join([*([pip("uninstall", "-y", *here)] if here else []), SYSTEM_OPENCV])
        return Finding("opencv parts", False, f"{said}; csi:// cameras need the system's OpenCV", fix)
    return Finding("opencv parts", True, f"{said} (--show needs GUI, csi:// and gst: need GStreamer)")


def cuda_python() -> str:
    """The cuda-python for this machine, as pip's requirement."""
    if not is_jetson():
        return CUDA_PYTHON
    return JETPACK6_CUDA_PYTHON if sys.version_info < (3, 11) else JETPACK7_CUDA_PYTHON


def _built_with(info: str, name: str) -> bool:
    """One row of OpenCV's build information: `GUI: NONE`, `GUI: QT5`, `FFMPEG: YES`."""
    row = re.search(rf"^[ \t]*{name}:[ \t]*(\S*)", info, re.M)
    if name == "GUI" and row is not None and not row[1]:  # its backends follow on separate lines
        return re.search(r"^\s*(GTK\+?|QT|QT5|QT6|Cocoa|Win32 UI|WIN32UI):\s*YES", info, re.M) is not None
    return row is not None and row[1] not in ("NO", "NONE", "")


def _clash(module: str, here: dict[str, str], keep: str) -> Finding:
    lines = [pip("uninstall", "-y", *here), pip("install", keep)]
    return Finding(
        module, False, f"{_said(here)} are both installed and overwrite each other's files", " && ".join(lines)
    )


def _opencv_line() -> str:
    return SYSTEM_OPENCV if is_jetson() else pip("install", OPENCV)


def _said(here: dict[str, str], version: str = "") -> str:
    return ", ".join(f"{name} {number}" for name, number in here.items()) or f"{version} from the system".strip()


def _does_not_load(here: dict[str, str], error: ImportError) -> str:
    return f"{_said(here) if here else 'not installed'}; it does not load: {error}"


def hidden_from_here(module: str, system: Path = Path("/usr/lib")) -> bool:
    """Whether the system's Python has a module that this virtual environment cannot see."""
    return (
        sys.prefix != sys.base_prefix
        and importlib.util.find_spec(module) is None
        and any(system.glob(f"python3*/dist-packages/{module}"))
    )


def open_environment() -> str:
    """The command that makes the system's packages visible in this virtual environment."""
    if not os.path.exists(os.path.join(sys.prefix, "pyvenv.cfg")):
        return "python3 -m venv --system-site-packages .venv"
    config = shlex.quote(os.path.join(sys.prefix, "pyvenv.cfg"))
    return f"sed -i 's/^include-system-site-packages = false/include-system-site-packages = true/' {config}"
