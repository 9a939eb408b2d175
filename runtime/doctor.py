"""What works on this machine, and the exact line to type for what does not.

Every check really does what it reports: providers run the model, cameras give a frame, the cache takes a file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from ..errors import NumclipError
from .bench_environment import environment
from .json_report import write_json
from .model_file import shipped_models

RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
OPENCVS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
PROVIDER_DEVICES = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "tensorrt",
}
NEEDED_DISK_MB = 500


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    check: str
    ok: bool
    said: str
    fix: str | None = None  # the line to type


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip doctor`."""
    parser.add_argument("--camera", action="append", metavar="SOURCE", help="also open this camera or stream")
    parser.add_argument(
        "--json", metavar="FILE|-", help="the findings as JSON, for a bug report; names no user or host"
    )


def run(args: argparse.Namespace) -> int:
    """Look at everything; exit code 1 if anything needs fixing."""
    findings = [*checks(), *(camera(source) for source in args.camera or [])]
    problems = [f for f in findings if not f.ok]
    if args.json:
        machine = environment()
        write_json(args.json, {"environment": machine, "findings": [asdict(f) for f in findings]})
    if args.json != "-":
        for finding in findings:
            print(f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.check:<18} {finding.said}")
            if finding.fix:
                print(f"{'':<28}{finding.fix}")
        print(f"\n{len(problems)} problems" if problems else "\nnext: numclip run 0 --show")
    return 1 if problems else 0


def checks() -> Iterator[Finding]:
    """All findings but cameras, in the order one would fix them."""
    yield python()
    yield one_of("onnxruntime", RUNTIMES, 'python -m pip install "numclip[cpu]"', "onnxruntime>=1.17")
    yield one_of("opencv", OPENCVS, 'python -m pip install "numclip[cpu]"', "opencv-python>=4.8,<5")
    yield opencv_parts()
    yield from models()
    yield from providers()
    yield detector()
    yield cache()
    yield board()


def python() -> Finding:
    """Python is new enough."""
    ok = sys.version_info >= (3, 10)
    return Finding("python", ok, platform.python_version(), None if ok else "install Python 3.10 or newer")


def one_of(module: str, packages: tuple[str, ...], install: str, keep: str) -> Finding:
    """Exactly one of the packages that bring the same module; a second one overwrites the first's files."""
    here = [(name, found) for name in packages if (found := _version(name))]
    said = ", ".join(f"{name} {found}" for name, found in here)
    if len(here) > 1:
        names = " ".join(name for name, _ in here)
        return Finding(
            module,
            False,
            f"{said}: they overwrite each other",
            f'python -m pip uninstall -y {names} && python -m pip install "{keep}"',
        )
    name = "cv2" if module == "opencv" else module
    try:
        __import__(name)
    except ImportError as error:
        if here and "libGL" in str(error):
            line = 'python -m pip uninstall -y opencv-python && python -m pip install "opencv-python-headless>=4.8,<5"'
            return Finding(module, False, f"{said} does not load: {error}", line)
        return Finding(module, False, f"{said or 'not installed'}: {error}", install)
    return Finding(module, True, said or "from the system")


def opencv_parts() -> Finding:
    """Which optional parts this OpenCV was built with; missing ones are told, not faults."""
    try:
        import cv2
    except ImportError:
        return Finding("opencv parts", False, "OpenCV does not load")
    lines = cv2.getBuildInformation().splitlines()
    parts = {
        name: any(line.strip().startswith(name) and "YES" in line for line in lines) for name in ("FFMPEG", "GStreamer")
    }
    parts["windows"] = not any(line.strip().startswith("GUI:") and "NONE" in line for line in lines)
    said = ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in parts.items())
    return Finding("opencv parts", True, f"{said} (--show needs windows, csi:// and gst: need GStreamer)")


def models() -> Iterator[Finding]:
    """Every shipped model is there and whole."""
    from .model import load

    names = shipped_models() or ["age-nano"]
    for name in names:
        try:
            spec = load(name, "cpu", 1).spec
        except (NumclipError, ImportError) as error:
            line = "python -m pip install --force-reinstall --no-deps numclip"
            yield Finding(f"model {name}", False, _tidy(str(error)), line)
        else:
            errors = ", ".join(f"{m['data']} {m['mae']:.2f}" for m in spec.metrics)
            yield Finding(f"model {name}", True, f"whole; MAE {errors or 'not measured'}")


def providers() -> Iterator[Finding]:
    """Each execution provider really runs the model; the CPU must."""
    try:
        import onnxruntime as ort
    except ImportError:
        return
    from .model import load

    for provider in ort.get_available_providers():
        device = PROVIDER_DEVICES.get(provider)
        if device is None:
            continue
        try:
            model = load("age-nano", device, 1)
            side = model.spec.crop.side
            model(np.zeros((1, side, side, 3), np.uint8))
        except NumclipError as error:
            fix = None if device == "cpu" else "nvidia-smi"
            yield Finding(f"device {device}", device != "cpu", f"not usable: {_tidy(str(error))}", fix)
        else:
            yield Finding(f"device {device}", True, "runs the model")


def detector() -> Finding:
    """YuNet is there and is the published file."""
    from .detect import YUNET_SHA256, open_detector, yunet_path

    try:
        path = yunet_path()
    except NumclipError as error:
        return Finding("detector yunet", False, _tidy(str(error)), "unset NUMCLIP_YUNET")
    if path is None:
        return Finding(
            "detector yunet", False, "not fetched; Haar is used, which misses many faces", "numclip fetch yunet"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != YUNET_SHA256:
        line = f"rm '{path}' && numclip fetch yunet" if not os.environ.get("NUMCLIP_YUNET") else "unset NUMCLIP_YUNET"
        return Finding("detector yunet", False, "its bytes are not the published file's", line)
    try:
        open_detector("yunet").detect(np.zeros((64, 64, 3), np.uint8))
    except NumclipError as error:
        return Finding("detector yunet", False, _tidy(str(error)), "numclip fetch yunet")
    return Finding("detector yunet", True, "there, whole, and runs")


def cache() -> Finding:
    """The cache folder takes files and has room."""
    from .detect import cache_dir

    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"numclip")
        free_mb = shutil.disk_usage(folder).free // 2**20
    except OSError as error:
        return Finding("cache", False, f"{_tidy(str(folder))}: {error.strerror}", "export NUMCLIP_CACHE=$(mktemp -d)")
    ok = free_mb >= NEEDED_DISK_MB
    return Finding("cache", ok, f"writable, {free_mb} MB free", None if ok else "export NUMCLIP_CACHE=/a/larger/disk")


def board() -> Finding:
    """Which Jetson this is, if it is one."""
    model, release = (_text(p) for p in ("/proc/device-tree/model", "/etc/nv_tegra_release"))
    if model is None or "NVIDIA" not in model:
        return Finding("board", True, "not a Jetson")
    return Finding("board", True, f"{model}, {release or 'L4T release unknown'}")


def camera(source: str) -> Finding:
    """A camera or stream opens and gives a frame."""
    from .sources import open_source

    try:
        with open_source(source) as opened:
            frame = next(iter(opened))
            height, width = frame.image.shape[:2]
            rate = "" if opened.fps is None else f", says {opened.fps:g} fps"
            return Finding("camera", True, f"{opened.name}: {width} x {height}{rate}")
    except (NumclipError, StopIteration) as error:
        return Finding("camera", False, _tidy(str(error)) or f"{source} gives no frame", "ls -l /dev/video*")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace").splitlines()[0].strip("\0")
    except (OSError, IndexError):
        return None


def _tidy(text: str) -> str:
    """Without the user's home folder."""
    return text.replace(str(Path.home()), "~")
