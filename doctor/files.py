"""Checks of the shipped models, the face detector and the cache folder."""

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
    """Whether every shipped model exists, is complete, and has the graph that its calibration was fitted for."""
    from ..runtime.contract.model_file import shipped_models
    from ..runtime.sessions.model import load

    for name in sorted({*shipped_models(), "age-nano"}):  # the default model may be the missing one
        try:
            spec = load(name, "cpu", 1).spec
        except NumclipError as error:
            yield Finding(f"model {name}", False, str(error), restore(f"runtime/models/{name}.onnx"))
        else:
            errors = ", ".join(f"{m.data} {m.mae:.2f}" for m in spec.metrics)
            yield Finding(f"model {name}", True, f"complete; MAE {errors or 'not measured'}")


def finder() -> Iterator[Finding]:
    """Whether the shipped face detector opens and runs."""
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
        yield Finding(check, True, f"runs; finds faces from {found.spec.smallest_face_px:g} px")


def yunet() -> Iterator[Finding]:
    """Whether YuNet, if it was downloaded, is the published file and runs."""
    import cv2
    import numpy as np

    from ..runtime.faces.yunet import YUNET_SHA256, YuNetDetector, yunet_path

    check, named = "detector yunet", os.environ.get("NUMCLIP_YUNET")
    replace = "unset NUMCLIP_YUNET" if named else "numclip fetch yunet"
    try:
        path = yunet_path()
        if path is None:
            yield Finding(
                check, True, "not downloaded, and only needed for --detector yunet; numclip fetch yunet downloads it"
            )
            return
        if hashlib.sha256(path.read_bytes()).hexdigest() != YUNET_SHA256:
            yield Finding(check, False, f"{path}: differs from the published file", replace)
            return
        YuNetDetector().detect(np.zeros((64, 64, 3), np.uint8))
    except OSError as error:
        yield Finding(check, False, f"{error.filename}: {error.strerror}", replace)
    except (NumclipError, cv2.error) as error:
        yield Finding(check, False, str(error), replace)
    else:
        yield Finding(check, True, "is the published file, and runs")


def cache() -> Iterator[Finding]:
    """Whether the cache folder is writable and has enough space."""
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
    """Why a folder is not writable, in the system's words; None if it is."""
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
    """A command that sets a writable cache folder, preferably the usual one, and with enough space if `needed`."""
    usual = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME", "~/.cache"))) / "numclip"
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
    """Whether a folder would be writable; tried on its nearest existing parent, so that the check leaves nothing behind."""
    return _refusal(_there(folder)) is None


def _there(folder: Path) -> Path:
    return next((f for f in (folder, *folder.parents) if f.is_dir()), Path("/"))
