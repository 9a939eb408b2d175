"""Open a face detector by name or by file."""

from __future__ import annotations

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
    enlarge: bool = False,
) -> Detector:
    """A detector by name, or a face finder by its file.

    smallest_face_px: the longer side of the smallest face to find. None: the detector's own answer about the picture as it is.
    enlarge: whether a picture may be enlarged for small faces, up to twice; meant for single pictures, not for video.
    device, threads: where a face finder runs. YuNet and Haar always run in OpenCV on the CPU.
    Raises DetectorError, DeviceError, ModelError.
    """
    if enlarge:
        return enlarging(open_detector(name, score_threshold, smallest_face_px, device, threads))
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
    """The same detector for single pictures, which may be enlarged for small faces; it shares the network that is open."""
    return detector.enlarging() if isinstance(detector, (FacesNano, YuNetDetector)) else detector


def identity(detector: Detector) -> str:
    """What tells this detector's faces from another's: its name, and for a finder its graph."""
    return f"{detector.name} {detector.graph_sha256}" if isinstance(detector, FacesNano) else detector.name
