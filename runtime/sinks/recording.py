"""Recordings of runs: results and events with their times, line by line, to be played back without a camera.

The first line describes the recording. Then follows one JSON object per result or event, with the second at which it was handed
over. The recording contains no pixels unless they are requested (then as JPEG, with the faces in them).
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast, get_args

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import ModelError, SourceError
from ..contract.gate import Answer
from ..contract.task import TaskSpec, check_task
from ..live.frames import EventKind, Frame, SourceEvent, SourceInfo
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
        named = [{"name": source.name, "fps": source.fps, "stills": source.stills} for source in sources]
        self._append({"numclip_recording": VERSION, "task": asdict(task), "level": level, "sources": named})

    def write(self, result: FrameResult) -> None:
        """Append one result."""
        frame = result.frame
        points = [None if f.landmarks is None else np.round(f.landmarks, 1).tolist() for f in result.faces]
        line: dict[str, object] = {
            "at_s": self._now_s(),
            "size_hw": list(frame.image.shape[:2]),
            "segment": frame.segment,
        }
        line |= {"result": result.to_dict(self._level), "landmarks": points}
        if len(result.hide_xyxy):
            line["hide"] = np.round(result.hide_xyxy, 1).tolist()
        line["times_ms"] = {stage: round(1000 * t, 3) for stage, t in result.times_s.items()}
        if self._pixels:
            jpeg = cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
            line["jpeg"] = base64.b64encode(jpeg.tobytes()).decode()
        self._append(line)

    def tell(self, event: SourceEvent) -> None:
        """Append one event."""
        self._append({"at_s": self._now_s(), **event.to_json()})

    def close(self) -> None:
        self._file.close()

    def _now_s(self) -> float:
        return round(time.monotonic() - self._started_s, 4)

    def _append(self, line: Mapping[str, object]) -> None:
        self._file.append(json_line(line))


@dataclass(frozen=True, eq=False)
class RecordedReading:
    """The recorded estimate of a face."""

    value: float
    bin: str
    probabilities: npt.NDArray[np.float32]  # [K]
    range: tuple[float, float] | None
    level: float | None

    @property
    def is_calibrated(self) -> bool:
        """Whether the interval was recorded."""
        return self.range is not None

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Low and high; raises ModelError for any level but the recorded one."""
        if self.range is None or self.level is None:
            raise ModelError("the recording has no intervals; record again with a calibrated model")
        if level != self.level:
            raise ModelError(
                f"expected the interval level {self.level:g} of the recording, got {level:g}; record again for another level"
            )
        return self.range


class Fields:
    """One JSON object of a recording; each method raises ValueError if the field has another type."""

    def __init__(self, content: object) -> None:
        if not isinstance(content, dict):
            raise ValueError(f"expected an object, got {str(content)[:40]}")
        self._content = cast(dict[str, object], content)

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def has(self, key: str) -> bool:
        """Whether a field that must be there is not null."""
        return self.raw(key) is not None

    def raw(self, key: str) -> object:
        """The unchecked field."""
        if key not in self._content:
            raise ValueError(f"expected a field {key!r}, found none")
        return self._content[key]

    def text(self, key: str, one_of: Sequence[str] | None = None) -> str:
        """A string, one of these."""
        value = self.raw(key)
        if not isinstance(value, str) or (one_of is not None and value not in one_of):
            kind = "text" if one_of is None else f"one of {', '.join(map(repr, one_of))}"
            raise ValueError(f"expected {kind} for {key!r}, got {str(value)[:40]!r}")
        return value

    def number(self, key: str) -> float:
        """A finite number."""
        return _finite(self.raw(key), key)

    def second(self, key: str) -> float:
        """A time, or another number of at least 0."""
        value = self.number(key)
        if value < 0:
            raise ValueError(f"expected a number of at least 0 for {key!r}, got {value:g}")
        return value

    def count(self, key: str) -> int:
        """A whole number of at least 0."""
        value = self.second(key)
        if value != int(value):
            raise ValueError(f"expected a whole number for {key!r}, got {value:g}")
        return int(value)

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self.raw(key)
        if not isinstance(value, bool):
            raise ValueError(f"expected true or false for {key!r}, got {str(value)[:40]!r}")
        return value

    def record(self, key: str) -> Fields:
        """An object."""
        return Fields(self.raw(key))

    def items(self, key: str) -> list[object]:
        """A list."""
        value = self.raw(key)
        if not isinstance(value, list):
            raise ValueError(f"expected a list for {key!r}, got {str(value)[:40]}")
        return cast(list[object], value)

    def records(self, key: str) -> list[Fields]:
        """A list of objects."""
        return [Fields(item) for item in self.items(key)]

    def numbers(self, key: str, many: int) -> list[float]:
        """This many finite numbers."""
        values = [_finite(item, key) for item in self.items(key)]
        if len(values) != many:
            raise ValueError(f"expected {many} numbers for {key!r}, got {len(values)}")
        return values

    @property
    def names(self) -> list[str]:
        """The names of the fields."""
        return list(self._content)


class Recording:
    """A recording, read from the start; raises SourceError naming the first invalid line."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._lines = self._numbered(path)
        try:
            head = next(self._lines)[1]
            self.task = _task(head.record("task"))
            self.level = head.number("level") if head.has("level") else None
            if head.count("numclip_recording") != VERSION:
                raise ValueError(f"expected numclip_recording {VERSION}, got {head.raw('numclip_recording')}")
            self.infos = [
                SourceInfo(
                    source.text("name"),
                    fps=source.number("fps") if source.has("fps") else None,
                    stills="stills" in source and source.flag("stills"),  # older recordings lack it
                )
                for source in head.records("sources")
            ]
        except (StopIteration, ValueError) as error:
            raise SourceError(
                f"{path}: not a recording of `numclip run --record` ({error}); give another file"
            ) from None

    def items(self) -> Iterator[tuple[float, FrameResult | SourceEvent]]:
        """The items as (seconds since the start, result or event), in order."""
        for number, line in self._lines:
            try:
                yield line.second("at_s"), self._item(line)
            except (ValueError, OverflowError) as error:
                raise SourceError(
                    f"{self.name}: line {number} is not a valid line of a recording ({error}); the lines before it were played"
                ) from None

    def _numbered(self, path: Path) -> Iterator[tuple[int, Fields]]:
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    try:
                        yield number, Fields(json.loads(line))
                    except (ValueError, RecursionError):
                        raise SourceError(
                            f"{path}: line {number} is not a JSON object; the lines before it were played"
                        ) from None
        except OSError as error:
            raise SourceError(f"{path}: cannot read the recording ({error.strerror}); correct the path") from None

    def _item(self, line: Fields) -> FrameResult | SourceEvent:
        if "event" in line:
            kind = cast(EventKind, line.text("event", get_args(EventKind)))
            reason = line.text("reason") if "reason" in line else ""
            return SourceEvent(kind, line.text("source"), line.second("time_s"), reason)
        raw = line.record("result")
        source = raw.text("source", [info.name for info in self.infos])
        file = raw.text("file") if "file" in raw and raw.has("file") else None
        frame = Frame(_image(line), raw.count("frame"), raw.second("time_s"), 0.0, source, file)
        pairs = zip(raw.records("faces"), line.items("landmarks"), strict=True)
        times_ms = line.record("times_ms")
        return FrameResult(
            frame,
            tuple(self._face(face, points) for face, points in pairs),
            raw.second("latency_ms") / 1000,
            raw.count("dropped"),
            self.task,
            {stage: times_ms.number(stage) / 1000 for stage in times_ms.names},
            _boxes(line.items("hide") if "hide" in line else []),
        )

    def _face(self, raw: Fields, points: object) -> Face:
        x1, y1, x2, y2 = raw.numbers("box", 4)
        return Face(
            box_xyxy=(x1, y1, x2, y2),
            score=raw.number("score"),
            landmarks=None if points is None else _landmarks(points),
            reading=self._reading(raw) if raw.has(self.task.name) else None,
            track_id=raw.count("track") if raw.has("track") else None,
            fresh=raw.flag("fresh"),
            reason=raw.text("reason") if "reason" in raw else None,
            gate=_answer(raw.record("gate")) if "gate" in raw else None,
        )

    def _reading(self, raw: Fields) -> RecordedReading:
        return RecordedReading(
            value=raw.number(self.task.name),
            bin=raw.text("bin", self.task.words),
            probabilities=np.array(raw.numbers("probabilities", self.task.num_bins), np.float32),
            range=(raw.number("low"), raw.number("high")) if raw.has("low") else None,
            level=self.level,
        )


def _answer(raw: Fields) -> Answer:
    said = raw.text("answer", ("yes", "no", "ask"))
    p = raw.number("p") if raw.has("p") else None
    return Answer(raw.number("threshold"), raw.number("error"), p, said, raw.count("looks"))


def _boxes(rows: Sequence[object]) -> npt.NDArray[np.float32]:
    """[B, 4] boxes; raises ValueError if they are none."""
    return np.array([Fields({"box": row}).numbers("box", 4) for row in rows], np.float32).reshape(-1, 4)


def _landmarks(points: object) -> npt.NDArray[np.float32]:
    """[5, 2]"""
    rows = [Fields({"point": row}).numbers("point", 2) for row in Fields({"landmarks": points}).items("landmarks")]
    if len(rows) != 5:
        raise ValueError(f"expected 5 landmarks, got {len(rows)}")
    return np.array(rows, np.float32)


def _finite(value: object, key: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or abs(value) > 1e9:
        raise ValueError(f"expected a finite number of at most 1e9 for {key!r}, got {str(value)[:40]}")
    return float(value)


def _task(raw: Fields) -> TaskSpec:
    words = [Fields({"words": word}).text("words") for word in raw.items("words")]
    task = TaskSpec(
        name=raw.text("name"),
        unit=raw.text("unit"),
        low=raw.number("low"),
        high=raw.number("high"),
        bin_edges=tuple(raw.numbers("bin_edges", len(words) + 1)),
        words=tuple(words),
    )
    check_task(task)
    return task


def _image(line: Fields) -> npt.NDArray[np.uint8]:
    """The recorded picture, or a grey one of its size."""
    height, width = (int(v) for v in line.numbers("size_hw", 2))
    if not (0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX):
        raise ValueError(f"size {height} x {width}")
    if "jpeg" not in line:
        return np.broadcast_to(np.uint8(128), (height, width, 3))
    data = np.frombuffer(base64.b64decode(line.text("jpeg"), validate=True), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None or image.shape[:2] != (height, width):
        raise ValueError("jpeg")
    return np.asarray(image, np.uint8)
