"""A run on record: what was seen, when, and what went wrong, line by line, to be played back without a camera.

The first line says what was recorded; then one JSON object per result or event, with the second it was handed over at. No
pixels, unless they are asked for (then as JPEG, with the faces in them).
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import ModelError, SourceError
from ..contract.gate import Answer
from ..contract.task import TaskSpec, check_task
from ..live.frames import Frame, SourceEvent, SourceInfo
from ..live.results import Face, FrameResult
from .line_file import LineFile
from .sink import json_line

VERSION = 1
JPEG_QUALITY = 90
MAX_SIDE_PX = 16384


class RecordSink:
    """Writes the recording."""

    def __init__(
        self, where: str, task: TaskSpec, level: float | None, sources: Sequence[SourceInfo], pixels: bool
    ) -> None:
        self._file, self._level, self._pixels = LineFile(where, "--record"), level, pixels
        self._started_s = time.monotonic()
        named = [{"name": source.name, "fps": source.fps} for source in sources]
        self._append({"numclip_recording": VERSION, "task": asdict(task), "level": level, "sources": named})

    def write(self, result: FrameResult) -> None:
        """Append one result."""
        frame = result.frame
        points = [None if f.landmarks is None else np.round(f.landmarks, 1).tolist() for f in result.faces]
        line: dict[str, Any] = {"at_s": self._now_s(), "size_hw": list(frame.image.shape[:2]), "segment": frame.segment}
        line |= {"result": result.to_json(self._level), "landmarks": points}
        line["times_ms"] = {stage: round(1000 * t, 3) for stage, t in result.times_s.items()}
        if self._pixels:
            jpeg = cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
            line["jpeg"] = base64.b64encode(jpeg.tobytes()).decode()
        self._append(line)

    def tell(self, event: SourceEvent) -> None:
        """Append one event."""
        self._append({"at_s": self._now_s(), **event.to_json(), "reason": event.reason})

    def close(self) -> None:
        self._file.close()

    def _now_s(self) -> float:
        return round(time.monotonic() - self._started_s, 4)

    def _append(self, line: dict[str, Any]) -> None:
        self._file.append(json_line(line))


@dataclass(frozen=True, eq=False)
class RecordedReading:
    """What was shown on a face; answers what it was recorded with."""

    value: float
    bin: str
    probabilities: npt.NDArray[np.float32]  # [K]
    range: tuple[float, float] | None
    level: float | None

    @property
    def is_calibrated(self) -> bool:
        """Whether the range was recorded."""
        return self.range is not None

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Low and high; raises ModelError at any level but the recorded one."""
        if self.range is None or level != self.level:
            raise ModelError(f"expected the recorded interval level {self.level}, got {level:g}; replay with that one")
        return self.range


class Recording:
    """A recording that is read from the start; raises SourceError naming the first line that is none."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.info = SourceInfo(self.name, files=(path,))
        self._lines = self._numbered(path)
        try:
            head = next(self._lines)[1]
            self.task = _task(_dict(head["task"]))
            self.level = None if head["level"] is None else float(head["level"])
            if head["numclip_recording"] != VERSION:
                raise ValueError(f"version {head['numclip_recording']}")
            self.infos = [_named(_dict(source)) for source in head["sources"]]
        except (StopIteration, KeyError, TypeError, ValueError, ModelError) as error:
            raise SourceError(f"{path}: expected a recording of `numclip run --record`, failed at {error}") from None

    def items(self) -> Iterator[tuple[float, FrameResult | SourceEvent]]:
        """(second since the start, result or event), in order."""
        for number, line in self._lines:
            try:
                yield _second(line["at_s"]), self._item(line)
            except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError) as error:
                raise SourceError(
                    f"{self.name}: line {number} is no line of a recording ({type(error).__name__}: {error}); "
                    "what came before it was played"
                ) from None

    def _numbered(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    try:
                        yield number, _dict(json.loads(line))
                    except (ValueError, RecursionError):
                        raise SourceError(
                            f"{path}: line {number} is no JSON object; what came before it was played"
                        ) from None
        except OSError as error:
            raise SourceError(f"{path}: expected a recording ({error.strerror}); correct the path") from None

    def _item(self, line: dict[str, Any]) -> FrameResult | SourceEvent:
        if "event" in line:
            kind = line["event"]
            if kind not in ("stalled", "resumed", "ended", "failed"):
                raise ValueError(f"event {kind!r}")
            return SourceEvent(kind, str(line["source"]), _second(line["time_s"]), str(line.get("reason", "")))
        raw, landmarks = _dict(line["result"]), line["landmarks"]
        if raw["source"] not in [source.name for source in self.infos]:
            raise ValueError(f"source {raw['source']!r}")
        image = _image(line)
        frame = Frame(image, int(raw["frame"]), _second(raw["time_s"]), 0.0, str(raw["source"]), raw.get("file"))
        faces = tuple(self._face(_dict(f), p) for f, p in zip(raw["faces"], landmarks, strict=True))
        times_s = {str(stage): float(ms) / 1000 for stage, ms in _dict(line["times_ms"]).items()}
        latency_s = _second(raw["latency_ms"]) / 1000
        return FrameResult(frame, faces, latency_s, int(raw["dropped"]), self.task, times_s)

    def _face(self, raw: dict[str, Any], landmarks: Any) -> Face:
        reading, gate = None, None
        if raw[self.task.name] is not None:
            known = None if raw["low"] is None else (float(raw["low"]), float(raw["high"]))
            probabilities = np.asarray(raw["probabilities"], np.float32).reshape(self.task.num_bins)
            if raw["bin"] not in self.task.words:
                raise ValueError(f"bin {raw['bin']!r}")
            reading = RecordedReading(_finite(raw[self.task.name]), raw["bin"], probabilities, known, self.level)
        if "gate" in raw:
            gate = Answer(**{k: raw["gate"][k] for k in ("threshold", "error", "p", "answer", "looks")})
        x1, y1, x2, y2 = (_finite(v) for v in raw["box"])
        points = None if landmarks is None else np.asarray(landmarks, np.float32).reshape(5, 2)
        track = None if raw["track"] is None else int(raw["track"])
        return Face(
            (x1, y1, x2, y2),
            _finite(raw["score"]),
            points,
            reading,
            None,
            track,
            bool(raw["fresh"]),
            raw.get("reason"),
            gate,
        )


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {str(value)[:40]}")
    return cast(dict[str, Any], value)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or abs(number) > 1e9:
        raise ValueError(f"number {value}")
    return number


def _second(value: Any) -> float:
    number = _finite(value)
    if number < 0:
        raise ValueError(f"time {value}")
    return number


def _task(raw: dict[str, Any]) -> TaskSpec:
    fields: dict[str, Any] = {
        **raw,
        "bin_edges": tuple(map(_finite, raw["bin_edges"])),
        "words": tuple(map(str, raw["words"])),
    }
    task = TaskSpec(**fields)
    check_task(task)
    return task


def _named(raw: dict[str, Any]) -> SourceInfo:
    return SourceInfo(str(raw["name"]), fps=None if raw["fps"] is None else _finite(raw["fps"]))


def _image(line: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """The recorded picture, or grey of its size."""
    height, width = (int(v) for v in line["size_hw"])
    if not (0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX):
        raise ValueError(f"size {height} x {width}")
    if "jpeg" not in line:
        return np.broadcast_to(np.uint8(128), (height, width, 3))
    image = cv2.imdecode(np.frombuffer(base64.b64decode(line["jpeg"], validate=True), np.uint8), cv2.IMREAD_COLOR)
    if image is None or image.shape[:2] != (height, width):
        raise ValueError("jpeg")
    return np.asarray(image, np.uint8)
