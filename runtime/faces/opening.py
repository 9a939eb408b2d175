"""Open a face detector by name or by file."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

from ...errors import DetectorError, did_you_mean
from ..contract.model_file import FINDER
from .detect import KEEP_SCORE, WHOLE, Detector, HaarDetector, WholePicture
from .finder import FacesNano
from .yunet import YuNetDetector

DETECTORS = (FINDER, "yunet", "haar")
HELP = (
    "face detector: faces-nano, yunet (after numclip fetch yunet), haar (OpenCV's cascade), or a detector's .onnx or "
    ".engine file"
)


def open_detector(
    name: str = FINDER,
    score_threshold: float = KEEP_SCORE,
    smallest_face_px: float | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Detector:
    """A detector by name, or a face finder by its file.

    smallest_face_px: the longer side of the smallest face to find. None: the detector's own answer about the picture as it is.
    device, threads: where a face finder runs. YuNet and Haar always run in OpenCV on the CPU.
    Raises DetectorError, DeviceError, ModelError.
    """
    if name == "yunet":
        return YuNetDetector(score_threshold, smallest_face_px)
    if name == "haar":
        return HaarDetector()
    if name == WHOLE:
        return WholePicture()
    if name == FINDER or Path(name).suffix in (".onnx", ".engine"):
        return FacesNano(score_threshold, smallest_face_px, device, threads, name)
    raise DetectorError(
        f"expected detector {', '.join(DETECTORS)} or a face detector's .onnx or .engine file, got {name!r}{did_you_mean(name, DETECTORS)}"
    )


def enlarging(detector: Detector) -> Detector:
    """The same detector for single pictures; Haar and a user's own detector stay as they are.

    A picture may be enlarged for small faces, up to twice. That finds nearly all of them and costs up to four times as much: for
    pictures that are looked at once, rather than for video, where a face is seen many times. Both share the network that is open, so
    closing either closes both.
    """
    if not isinstance(detector, (FacesNano, YuNetDetector)):
        return detector
    other = copy.copy(detector)
    other.looks = replace(detector.looks, enlarge=True)
    return other


def identity(detector: Detector) -> str:
    """What tells this detector's faces from another's: its name, and for a finder its graph."""
    return f"{detector.name} {detector.graph_sha256}" if isinstance(detector, FacesNano) else detector.name
