"""The way of a frame: source -> Frame -> faces -> crops -> model -> Reading -> track -> FrameResult."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .crops import crop_faces
from .detect import Detections, Detector, open_detector
from .frames import Face, Frame, FrameResult
from .gate import TrackGate
from .model import Model, load
from .readings import Readings
from .sources import open_source, read_picture
from .tracking import Track, Tracker

MIN_FACE_PX, MAX_FACES = 24, 32


class Pipeline:
    """Detector, model and tracker, joined once and used for every frame."""

    def __init__(
        self,
        model: Model,
        detector: Detector,
        tracker: Tracker | None,
        max_faces: int = MAX_FACES,
        min_face_px: int = MIN_FACE_PX,
        gate: TrackGate | None = None,
    ) -> None:
        """tracker: None for pictures that have nothing to do with each other; then every detected face is answered."""
        self.model, self.detector, self.tracker, self.gate = model, detector, tracker, gate
        self.max_faces, self.min_face_px = max_faces, min_face_px

    def read(self, frame: Frame, dropped: int = 0) -> FrameResult:
        """Everything about one frame, with one batched call of the model."""
        faces = self._worth_reading(self.detector.detect(frame.image))
        faces, tracks = self._tracked(faces)
        crops = crop_faces(frame.image, faces, self.model.spec.crop, self.detector.name)
        readings = self.model(crops)
        latency_s = time.monotonic() - frame.captured_s
        return FrameResult(frame, self._join(faces, tracks, readings), latency_s, dropped, self.model.spec.task)

    def _worth_reading(self, faces: Detections) -> Detections:
        """Faces of at least min_face_px; the largest max_faces of them."""
        sides = (faces.boxes_xyxy[:, 2:] - faces.boxes_xyxy[:, :2]).max(axis=1, initial=0)  # [F] px
        order = np.argsort(-sides, kind="stable")
        return faces.take(order[sides[order] >= self.min_face_px][: self.max_faces])

    def _tracked(self, faces: Detections) -> tuple[Detections, list[Track | None]]:
        """Only faces with a track to show, by track; without a tracker all of them."""
        if self.tracker is None:
            return faces, [None] * len(faces)
        tracks = self.tracker.update(faces)
        shown = sorted((t.track_id, at) for at, t in enumerate(tracks) if t is not None)
        return faces.take(np.array([at for _, at in shown], np.intp)), [tracks[at] for _, at in shown]

    def _join(self, faces: Detections, tracks: list[Track | None], readings: Readings) -> tuple[Face, ...]:
        joined: list[Face] = []
        for i, box in enumerate(faces.boxes_xyxy):
            track = tracks[i]
            track_id = None if track is None else track.track_id
            joined.append(
                Face(
                    box_xyxy=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                    score=float(faces.scores[i]),
                    landmarks=None if faces.landmarks is None else faces.landmarks[i],
                    reading=readings[i],
                    track_id=track_id,
                    gate=None if self.gate is None else self.gate.look(readings[i], track_id),
                )
            )
        return tuple(joined)


def read(
    image: str | os.PathLike[str] | npt.NDArray[np.uint8], model: Model | None = None, detector: str = "auto"
) -> FrameResult:
    """Read the faces in one picture: a path (EXIF turned) or [H, W, 3] uint8 BGR; model None is the default one.

    Raises SourceError for a file that is no picture, ValueError for an array of another kind.
    """
    captured_s = time.monotonic()
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"expected a picture uint8 [H, W, 3] BGR, got {image.dtype} {list(image.shape)}")
        frame = Frame(image, 0, 0.0, captured_s, "array")
    else:
        frame = Frame(read_picture(image), 0, 0.0, captured_s, os.fspath(image), Path(image).name)
    return Pipeline(model or _default_model(), open_detector(detector), tracker=None).read(frame)


def stream(
    source: str | int | os.PathLike[str], model: Model | None = None, detector: str = "auto"
) -> Iterator[FrameResult]:
    """Read a camera, video, stream or folder, frame by frame; model None is the default one.

    Raises SourceError when the source cannot be opened, and at its end if parts of it could not be read.
    """
    with open_source(os.fspath(source) if not isinstance(source, int) else str(source)) as opened:
        pipeline = Pipeline(model or _default_model(), open_detector(detector), None if opened.stills else Tracker())
        for frame in opened:
            yield pipeline.read(frame, opened.dropped)


@functools.cache
def _default_model() -> Model:
    """age-nano, opened once."""
    return load()
