"""Results: `Face` and `FrameResult`, and their conversion to text, JSON, pictures, pandas and supervision."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import OutputError
from ..contract.gate import Answer
from ..contract.readings import Reading
from ..contract.spec import TaskSpec
from ..places import write_whole
from .addresses import path_of
from .drawing import Mark, draw
from .frames import Frame

if TYPE_CHECKING:
    import pandas
    import supervision

HEAD = ("source", "file", "frame", "time_s", "latency_ms", "dropped")  # first columns of every table of results
LEVEL = 0.9  # default level of intervals
NOTEBOOK_SIDE_PX = 1280  # longest side of a picture in a notebook
Image = npt.NDArray[np.uint8]


class Shown(Protocol):
    """An estimate that a face shows: the `Reading` of one look, a track's running estimate, or a recorded one."""

    @property
    def value(self) -> float:
        """In the task's unit."""
        ...

    @property
    def bin(self) -> str:
        """The word of the bin that holds the value."""
        ...

    @property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """[K] over the text bins."""
        ...

    @property
    def is_calibrated(self) -> bool:
        """Whether the model is calibrated, so that `interval` works."""
        ...

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Low and high in the task's unit."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Face:
    """One face in a frame, and its estimated age."""

    box_xyxy: tuple[float, float, float, float]  # px
    score: float  # the detector's score, 0 to 1, from the last frame in which it found this face
    landmarks: npt.NDArray[np.float32] | None  # [5, 2] px, YuNet's order
    reading: Shown | None  # the estimate: a track's running estimate, or a picture's single reading; None: see `reason`
    look: Reading | None = None  # this frame's own reading; None if the model did not run, or it was rejected
    track_id: int | None = None
    fresh: bool = True  # the model ran on this face in this frame
    reason: str | None = None  # if there is no estimate: waiting, small, profile, blurred or range
    gate: Answer | None = None  # the gate's answer; None without a gate

    @property
    def age(self) -> float | None:
        """The estimated value in the task's unit (years); None if there is none, and then `reason` says why."""
        return None if self.reading is None else self.reading.value

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 90 % interval (low, high), in the task's unit; None without an estimate or a calibration."""
        return self.interval_at(LEVEL)

    def interval_at(self, level: float | None) -> tuple[float, float] | None:
        """The interval (low, high) that contains the true value with probability `level`; None without an estimate, a calibration
        or a level."""
        if self.reading is None or level is None or not self.reading.is_calibrated:
            return None
        low, high = self.reading.interval(level)
        return float(low), float(high)

    @property
    def word(self) -> str | None:
        """The word of the estimate's bin, such as "young adult"; None without an estimate."""
        return None if self.reading is None else self.reading.bin

    def to_dict(self, name: str = "age", level: float | None = LEVEL) -> dict[str, object]:
        """The face as in a JSON line. name: the key of the value, which is the task's name. level: of `low` and `high`; they are
        None if level is None or the model is not calibrated."""
        reading, interval = self.reading, self.interval_at(level)
        low, high = (None, None) if interval is None else (round(v, 2) for v in interval)
        face: dict[str, object] = {
            "track": self.track_id,
            "box": [round(float(v), 1) for v in self.box_xyxy],
            "score": round(float(self.score), 4),
            name: None if reading is None else round(reading.value, 2),
            "low": low,
            "high": high,
            "level": None if interval is None else level,
            "bin": self.word,
            "probabilities": [] if reading is None else [round(p, 4) for p in reading.probabilities.tolist()],
            "fresh": self.fresh,
        }
        if self.gate is not None:
            face["gate"] = self.gate.to_json()
        if self.reason is not None:
            face["reason"] = self.reason
        return face

    def to_json(self, name: str = "age", level: float | None = LEVEL) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(name, level), ensure_ascii=False)

    def describe(self, level: float | None = LEVEL) -> str:
        """The value with its range, word, gate answer and track, or why there is no value, as text for people."""
        track = "" if self.track_id is None else f" #{self.track_id}"
        if self.reading is None:
            return f"? ({self.reason}){track}"
        return f"{self._number(level)} {self.word}{self._answer}{track}"

    def mark(self, level: float | None = LEVEL) -> Mark:
        """The label to draw: the value (with its range if calibrated), and the word with gate and track."""
        track = "" if self.track_id is None else f"#{self.track_id}"
        if self.reading is None:
            words = [self.reason, track]
            return Mark(self.box_xyxy, "?", " ".join(word for word in words if word), self.track_id)
        words = [f"{self.word}{self._answer}", track]
        return Mark(self.box_xyxy, self._number(level), " ".join(word for word in words if word), self.track_id)

    @property
    def _answer(self) -> str:
        return "" if self.gate is None else f" {self.gate.threshold:g}+ {self.gate.answer}"

    def _number(self, level: float | None) -> str:
        interval = self.interval_at(level)
        around = "" if interval is None else f" ({interval[0]:.0f}-{interval[1]:.0f})"
        return f"{self.age:.0f}{around}"

    def __repr__(self) -> str:
        x1, y1, x2, y2 = (round(v) for v in self.box_xyxy)
        return f"Face({self.describe()}, box {x1},{y1} to {x2},{y2})"


@dataclass(frozen=True, eq=False, repr=False)
class FrameResult:
    """The faces of one frame, and the age of the result when it was handed over."""

    frame: Frame
    faces: tuple[Face, ...]
    latency_s: float  # from capture to result
    dropped: int  # frames of this source that were dropped so far because newer ones had arrived
    task: TaskSpec
    times_s: Mapping[str, float] = field(default_factory=lambda: {})  # the latency by stage
    hide_xyxy: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 4), np.float32))
    """[B, 4] px: where a face may be that is not in `faces`, because it is new, not sure or one too many. Blurred with the others."""

    def to_dict(self, level: float | None = LEVEL) -> dict[str, object]:
        """The result as in a JSON line. level: of `low` and `high`; None: without them."""
        return {**self.head(), "faces": [face.to_dict(self.task.name, level) for face in self.faces]}

    def to_json(self, level: float | None = LEVEL) -> str:
        """`to_dict` as JSON text: the line that `numclip run --jsonl` writes."""
        return json.dumps(self.to_dict(level), ensure_ascii=False)

    def to_counts(self) -> dict[str, object]:
        """The result without boxes, tracks and single ages: the number of faces per word, and of faces without an estimate."""
        return {**self.head(), "counts": self.counts, "unread": sum(face.reading is None for face in self.faces)}

    @property
    def counts(self) -> dict[str, int]:
        """The number of faces per word of the task."""
        counts = dict.fromkeys(self.task.words, 0)
        for face in self.faces:
            if face.word is not None:
                counts[face.word] += 1
        return counts

    def head(self) -> dict[str, object]:
        """The part of a JSON line that describes the frame."""
        head: dict[str, object] = {"source": self.frame.source}
        if self.frame.file is not None:
            head["file"] = self.frame.file
        return head | {
            "frame": self.frame.index,
            "time_s": round(self.frame.time_s, 3),
            "latency_ms": round(self.latency_s * 1000, 2),
            "dropped": self.dropped,
        }

    def plot(self, level: float | None = LEVEL, blur: bool = False) -> Image:
        """A copy of the picture, [H, W, 3] uint8 BGR, with its faces labelled. level: of the ranges; blur: blur everything that may be
        a face."""
        hide = [*(face.box_xyxy for face in self.faces), *self.hide_xyxy.tolist()] if blur else []
        return draw(self.frame.image, [face.mark(level) for face in self.faces], hide)

    def save(self, path: str | Path) -> Path:
        """Write `plot()` as a picture file and return its path. The suffix sets the format. Raises OutputError."""
        path = path_of(str(path))
        data = _encoded(path.suffix, self.plot())
        if data is None:
            raise OutputError(f"expected a file name such as result.jpg, got {path}; end it in .jpg or .png")
        write_whole(path, data)
        return path

    def to_supervision(self) -> supervision.Detections:
        """The faces as `supervision.Detections`, in the same order: boxes, scores, track ids, and in `data` the columns `age` and
        `interval` ([F, 2]; NaN without an estimate), `word`, `reason` and `track_id` (-1 without tracks)."""
        import supervision

        faces, nothing = self.faces, (np.nan, np.nan)
        tracked = bool(faces) and all(face.track_id is not None for face in faces)
        ids = np.array([-1 if face.track_id is None else face.track_id for face in faces], np.int64)
        return supervision.Detections(
            xyxy=np.array([face.box_xyxy for face in faces], np.float32).reshape(-1, 4),
            confidence=np.array([face.score for face in faces], np.float32),
            class_id=np.zeros(len(faces), np.int64),
            tracker_id=ids if tracked else None,
            data={
                self.task.name: np.array([np.nan if face.age is None else face.age for face in faces], np.float64),
                "interval": np.array([face.interval or nothing for face in faces], np.float64).reshape(-1, 2),
                "word": np.array([face.word or "" for face in faces], np.str_),
                "reason": np.array([face.reason or "" for face in faces], np.str_),
                "track_id": ids,
            },
        )

    def to_pandas(self) -> pandas.DataFrame:
        """One row per face, as in `numclip run --csv`: source, file, frame, time_s, latency_ms, dropped, track, x1, y1, x2, y2,
        score, the task's name (age), low, high, bin (the word), fresh, gate, reason. `pandas.concat(r.to_pandas() for r in results)` is a whole clip."""
        import pandas

        return pandas.DataFrame(rows_of(self, LEVEL), columns=list(columns_of(self.task)))

    def __repr__(self) -> str:
        where = self.frame.file or f"{self.frame.source}, frame {self.frame.index} at {self.frame.time_s:.2f} s"
        return f"FrameResult({where}: {self.describe()})"

    def describe(self, level: float | None = LEVEL) -> str:
        """The faces in one line, as text for people."""
        return "; ".join(face.describe(level) for face in self.faces) or "no face"

    def _repr_png_(self) -> bytes:
        return _encoded(".png", _shrunk(self.plot())) or b""

    def _repr_html_(self) -> str:
        """The picture and a table, as HTML for a notebook."""
        picture = base64.b64encode(_encoded(".jpg", _shrunk(self.plot())) or b"").decode()
        unit = html.escape(self.task.unit)
        lines = [f"<tr><th>track</th><th>{html.escape(self.task.name)} ({unit})</th><th>range</th><th>word</th></tr>"]
        for face in self.faces:
            number = f"{face.age:.1f}" if face.age is not None else f"? ({face.reason})"
            interval = face.interval
            around = "" if interval is None else f"{interval[0]:.0f} to {interval[1]:.0f}"
            track = "" if face.track_id is None else str(face.track_id)
            cells = "".join(f"<td>{html.escape(text)}</td>" for text in (track, number, around, face.word or ""))
            lines.append(f"<tr>{cells}</tr>")
        return f'<img src="data:image/jpeg;base64,{picture}"/><table>{"".join(lines)}</table>'


def columns_of(task: TaskSpec) -> tuple[str, ...]:
    """The columns of a table with one row per face."""
    return (*HEAD, "track", "x1", "y1", "x2", "y2", "score", task.name, "low", "high", "bin", "fresh", "gate", "reason")


def rows_of(result: FrameResult, level: float | None) -> list[dict[str, object]]:
    """The rows of `columns_of`, one per face; None in empty cells."""
    rows, head = list[dict[str, object]](), result.head()
    for face in result.faces:
        low, high = face.interval_at(level) or (None, None)
        row: dict[str, object] = {
            "file": None,
            **head,
            "track": face.track_id,
            **dict(zip(("x1", "y1", "x2", "y2"), (round(float(v), 1) for v in face.box_xyxy), strict=True)),
            "score": round(float(face.score), 4),
            result.task.name: None if face.age is None else round(face.age, 2),
            "low": None if low is None else round(low, 2),
            "high": None if high is None else round(high, 2),
            "bin": face.word,
            "fresh": face.fresh,
            "gate": None if face.gate is None else face.gate.answer,
            "reason": face.reason,
        }
        rows.append(row)
    return rows


def _encoded(suffix: str, image: Image) -> bytes | None:
    """A picture encoded in the format of a file suffix; None if OpenCV does not know the format."""
    try:
        good, data = cv2.imencode(suffix.lower(), image)
    except cv2.error:
        return None
    return data.tobytes() if good else None


def _shrunk(image: Image) -> Image:
    scale = NOTEBOOK_SIDE_PX / max(image.shape[:2])
    if scale >= 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
