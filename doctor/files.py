"""doctor: the shipped models, the face detector and the cache folder."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import NumclipError
from .finding import Finding, restore

NEEDED_DISK_MB = 500


def models() -> Iterator[Finding]:
    """Every shipped model is there, whole, and the graph its calibration was fitted for."""
    from ..runtime.contract.model_file import shipped_models
    from ..runtime.sessions.model import load

    for name in sorted({*shipped_models(), "age-nano"}):  # the default may be the one that is gone
        try:
            spec = load(name, "cpu", 1).spec
        except NumclipError as error:
            yield Finding(f"model {name}", False, str(error), restore(f"runtime/models/{name}.onnx"))
        else:
            errors = ", ".join(f"{m.data} {m.mae:.2f}" for m in spec.metrics)
            yield Finding(f"model {name}", True, f"whole; MAE {errors or 'not measured'}")


def finder() -> Iterator[Finding]:
    """The face finder that ships opens and runs."""
    import numpy as np

    from ..runtime.contract.model_file import FINDER
    from ..runtime.faces.finder import FacesNano

    check = f"detector {FINDER}"
    try:
        found = FacesNano()
        found.detect(np.zeros((64, 64, 3), np.uint8))
    except NumclipError as error:
        yield Finding(check, False, str(error), restore(f"runtime/models/{FINDER}.onnx"))
    else:
        yield Finding(check, True, f"there, and runs; sees faces from {found.spec.smallest_face_px:g} px")


def yunet() -> Iterator[Finding]:
    """YuNet, where it was fetched, is the published file, and runs."""
    import cv2
    import numpy as np

    from ..runtime.faces.yunet import YUNET_SHA256, YuNetDetector, yunet_path

    check, named = "detector yunet", os.environ.get("NUMCLIP_YUNET")
    replace = "unset NUMCLIP_YUNET" if named else "numclip fetch yunet"
    try:
        path = yunet_path()
        if path is None:
            yield Finding(check, True, "not fetched, and not needed; numclip fetch yunet brings it for comparison")
            return
        if hashlib.sha256(path.read_bytes()).hexdigest() != YUNET_SHA256:
            yield Finding(check, False, f"{path}: its bytes are not the published file's", replace)
            return
        YuNetDetector().detect(np.zeros((64, 64, 3), np.uint8))
    except OSError as error:
        yield Finding(check, False, f"{error.filename}: {error.strerror}", replace)
    except (NumclipError, cv2.error) as error:
        yield Finding(check, False, str(error), replace)
    else:
        yield Finding(check, True, "there, whole, and runs")


def cache() -> Iterator[Finding]:
    """The cache folder takes files and has room."""
    from ..runtime.places import cache_dir

    folder = cache_dir()
    refused = _refusal(folder)
    if refused is not None:
        yield Finding("cache", False, f"{folder}: {refused}", _other_cache(0))
        return
    free_mb = _free_mb(folder)
    ok = free_mb >= NEEDED_DISK_MB
    said = f"writable, {free_mb} MB free"
    yield Finding(
        "cache", ok, said if ok else f"{said}, {NEEDED_DISK_MB} MB are needed", None if ok else _other_cache(1)
    )


def _refusal(folder: Path) -> str | None:
    """Why a folder takes no file, in the system's words; None when it does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"numclip")
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _free_mb(folder: Path) -> int:
    return shutil.disk_usage(folder).free // 2**20


def _other_cache(needed: int) -> str:
    """A line that names a folder which does take files, the usual one first, and which has room where that is asked."""
    usual = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "numclip"
    for folder, line in (
        (usual, "unset NUMCLIP_CACHE"),
        *(
            (f, f"export NUMCLIP_CACHE={shlex.quote(str(f))}")
            for f in (Path.cwd() / "numclip-cache", Path("/var/tmp/numclip"))
        ),
    ):
        if line.startswith("unset") and not os.environ.get("NUMCLIP_CACHE"):
            continue
        if _takes_files(folder) and (not needed or _free_mb(_there(folder)) >= NEEDED_DISK_MB):
            return line
    return 'export NUMCLIP_CACHE="$(mktemp -d)"'


def _takes_files(folder: Path) -> bool:
    """Tried on the nearest folder that exists, so that looking leaves nothing behind."""
    return _refusal(_there(folder)) is None


def _there(folder: Path) -> Path:
    return next((f for f in (folder, *folder.parents) if f.is_dir()), Path("/"))
