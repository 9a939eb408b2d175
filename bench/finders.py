"""Face finders as contenders: DETECTOR@SIDE finds the faces of a square picture, DETECTOR@SIDE+MODEL also estimates their ages.

DETECTOR is `faces-nano` or a face finder's file, `yunet` in OpenCV as with `--detector yunet`, or `yunet-onnx`: the same file in
ONNX Runtime, which opens it for 640 px only, with its outputs decoded in numpy. The picture shows the portraits, four to a square.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..runtime.contract.model_file import resolve
from ..runtime.faces.crops import crop_faces
from ..runtime.faces.detect import KEEP_SCORE, Detections, Detector
from ..runtime.faces.finder import FacesNano
from ..runtime.faces.opening import open_detector
from ..runtime.faces.yunet import OVERLAP, yunet_path
from ..runtime.sessions.model import load

CONTENDER = re.compile(r"(?P<finder>[^@]+)@(?P<side>\d+)(\+(?P<model>.+))?$")
YUNET_ONNX, YUNET_SIDE_PX = "yunet-onnx", 640
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class FinderContender:
    """A face finder's facts for the report, and a function that opens it and returns the call to time."""

    file: Path
    sha256: str
    session: dict[str, object]
    picture: Image
    open: Callable[[], Callable[[], object]]


def open_finder(name: str, device: str, threads: int, pictures: list[Image]) -> FinderContender:
    """A contender by name. Raises UsageError for an invalid name, and the errors of opening a detector or a model."""
    found = CONTENDER.match(name)
    if found is None or int(found["side"]) < 32:
        raise UsageError(f"expected DETECTOR@SIDE or DETECTOR@SIDE+MODEL with a side of at least 32 px, got {name!r}")
    side, picture = int(found["side"]), square(pictures, int(found["side"]))

    def opened() -> Callable[[], object]:
        detector = _detector(found["finder"], side, device, threads)
        if found["model"] is None:
            return lambda: detector.detect(picture)
        model = load(found["model"], device, threads)

        def whole() -> object:
            return model(crop_faces(picture, detector.detect(picture), model.spec.crop, detector.name))

        return whole

    session: dict[str, object]
    detector = _detector(found["finder"], side, device, threads)
    if isinstance(detector, FacesNano):
        file, session = resolve(found["finder"]), asdict(detector.facts)
    else:
        file, library = yunet_path() or Path(), "onnxruntime" if found["finder"] == YUNET_ONNX else "opencv"
        session = {"library": library, "version": _version(library), "device": "cpu", "threads": threads}
    return FinderContender(file, hashlib.sha256(file.read_bytes()).hexdigest(), session, picture, opened)


def square(pictures: list[Image], side: int) -> Image:
    """A [side, side, 3] BGR picture of these pictures, two by two, in turn; grey if there are none."""
    if not pictures:
        return np.full((side, side, 3), 128, np.uint8)
    half = (side + 1) // 2
    parts = [
        np.asarray(cv2.resize(pictures[i % len(pictures)], (half, half), interpolation=cv2.INTER_AREA))
        for i in range(4)
    ]
    whole = np.vstack([np.hstack(parts[:2]), np.hstack(parts[2:])])[:side, :side]
    return np.ascontiguousarray(whole, np.uint8)


def _detector(name: str, side: int, device: str, threads: int) -> Detector:
    if name == YUNET_ONNX:
        return YuNetOnnx(side, threads)
    if name == "yunet":
        cv2.setNumThreads(threads)
    return open_detector(name, device=device, threads=threads)


def _version(library: str) -> str:
    if library == "opencv":
        return cv2.__version__
    import onnxruntime

    return onnxruntime.__version__


class YuNetOnnx:
    """YuNet 2023mar in ONNX Runtime on the CPU, for pictures of 640 x 640 px."""

    name = "yunet"

    def __init__(self, side: int, threads: int) -> None:
        import onnxruntime

        path = yunet_path()
        if side != YUNET_SIDE_PX or path is None:
            raise UsageError(
                f"{YUNET_ONNX} runs only at side {YUNET_SIDE_PX} and needs YuNet's file (numclip fetch yunet), got side "
                f"{side}; use {YUNET_ONNX}@{YUNET_SIDE_PX}"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
        cells = [np.mgrid[0 : side // s, 0 : side // s].reshape(2, -1)[::-1].T * s for s in (8, 16, 32)]  # x, y
        self._corners = np.concatenate(cells).astype(np.float32)  # [M, 2] px
        self._strides = np.repeat(np.array([8, 16, 32], np.float32), [len(c) for c in cells])[:, None]  # [M, 1]

    def detect(self, image: Image) -> Detections:
        """The faces of a [640, 640, 3] BGR picture, by descending score."""
        answers = self._session.run(self._names, {"input": cv2.dnn.blobFromImage(image)})
        cls, obj, box, points = (np.concatenate([np.asarray(a)[0] for a in answers[i : i + 3]]) for i in (0, 3, 6, 9))
        scores = np.sqrt(cls * obj)[:, 0]
        which = np.flatnonzero(scores >= KEEP_SCORE)
        corners, strides, box = self._corners[which], self._strides[which], box[which]
        center, size = corners + box[:, :2] * strides, np.exp(box[:, 2:]) * strides
        low = center - size / 2
        kept = cv2.dnn.NMSBoxes(np.hstack([low, size]).tolist(), scores[which].tolist(), KEEP_SCORE, OVERLAP)
        landmarks = corners[:, None] + points[which].reshape(-1, 5, 2) * strides[:, None]
        faces = Detections(np.hstack([low, low + size]).astype(np.float32), scores[which], landmarks.astype(np.float32))
        return faces.take(np.array(kept, np.intp).reshape(-1))
