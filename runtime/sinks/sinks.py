"""Where results go: JSON lines, a table, an annotated video, a window. Each is written in place, whole records at a time."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2

from ...errors import OutputError, UsageError
from ..contract.spec import TaskSpec
from ..live.frames import Face, FrameResult, SourceEvent, SourceInfo
from .drawing import Look, annotate
from .line_file import LineFile
from .video_writer import VideoWriter

LineOf = Callable[[FrameResult], dict[str, Any]]  # what a JSON line says of a result


class Sink(Protocol):
    """Takes every result and event once, in order."""

    def write(self, result: FrameResult) -> None: ...

    def tell(self, event: SourceEvent) -> None: ...

    def close(self) -> None: ...


class Stop(Exception):
    """The person at the window wants no more."""


class JsonlSink:
    """One JSON line per frame and per event, to a file or stdout."""

    def __init__(self, where: str, line_of: LineOf) -> None:
        self._file, self._line_of = LineFile(where, "--jsonl"), line_of

    def write(self, result: FrameResult) -> None:
        """Append one line."""
        self._file.append(json_line(self._line_of(result)))

    def tell(self, event: SourceEvent) -> None:
        """Append the event as a line of its own."""
        self._file.append(json_line(event.to_json()))

    def close(self) -> None:
        self._file.close()


def json_line(record: dict[str, Any]) -> bytes:
    """One record as a line of UTF-8 JSON."""
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()


class CsvSink:
    """A table with one row per face; with counts only, one row per frame."""

    HEAD = ("source", "file", "frame", "time_s", "latency_ms", "dropped")
    BOX = ("x1", "y1", "x2", "y2")

    def __init__(self, where: str, task: TaskSpec, level: float | None, counts: bool) -> None:
        self._file, self._task, self._level, self._counts = LineFile(where, "--csv"), task, level, counts
        face = ("track", *self.BOX, "score", task.name, "low", "high", "bin", "fresh", "gate", "reason")
        self._columns = (*self.HEAD, *((*task.words, "unread") if counts else face))
        self._append([dict(zip(self._columns, self._columns, strict=True))])

    def write(self, result: FrameResult) -> None:
        """Append the rows of one frame at once."""
        if self._counts:
            line = result.to_counts()
            self._append([{**line, **line["counts"]}])
            return
        line = result.to_json(self._level)
        self._append([{**line, **self._row(face)} for face in line["faces"]])

    def _row(self, face: dict[str, Any]) -> dict[str, Any]:
        gate = face["gate"]["answer"] if "gate" in face else None
        return {**face, **dict(zip(self.BOX, face["box"], strict=True)), "gate": gate}

    def _append(self, rows: Sequence[dict[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, extrasaction="ignore", lineterminator="\n")
        writer.writerows(rows)
        self._file.append(text.getvalue().encode())

    def tell(self, event: SourceEvent) -> None:
        """A table has no place for events."""

    def close(self) -> None:
        self._file.close()


class VideoSink:
    """The annotated frames as mp4, one file per source."""

    def __init__(self, path: Path, sources: Sequence[SourceInfo], look: Look) -> None:
        """path: holds {} where there are several sources; their numbers go there. Raises UsageError, OutputError."""
        if len(sources) > 1 and "{}" not in str(path):
            raise UsageError(f"expected --save with {{}} for the number of the source, such as out{{}}.mp4, got {path}")
        self._look, self._count = look, 0
        self._untimed = sources[0].stills and sources[0].fps is None
        self._writers: dict[str, VideoWriter] = {}
        for number, source in enumerate(sources):
            name = str(path).replace("{}", str(number)) if len(sources) > 1 else str(path)
            self._writers[source.name] = VideoWriter(Path(name), source.fps)

    def write(self, result: FrameResult) -> None:
        """Append one frame at its own time; pictures of a folder follow each other at one per second."""
        time_s = float(self._count) if self._untimed else result.frame.time_s
        self._writers[result.frame.source].write(annotate(result, self._look), time_s)
        self._count += 1

    def tell(self, event: SourceEvent) -> None:
        """A gap is as long in the video as it was."""

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class WindowSink:
    """A window per source that shows the annotated frames; q, Esc or closing it stops the run."""

    def __init__(self, look: Look, sources: Sequence[SourceInfo]) -> None:
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise OutputError("--show: expected a screen, neither DISPLAY nor WAYLAND_DISPLAY is set; use --save FILE")
        self._look, self._hold = look, sources[0].stills
        try:
            for source in sources:
                cv2.namedWindow(self._title(source.name), cv2.WINDOW_NORMAL)
        except cv2.error:
            raise OutputError(
                "--show: expected an OpenCV with windows, this build has none; use numclip[cpu] or --save"
            ) from None

    @staticmethod
    def _title(name: str) -> str:
        return f"numclip {name}"

    def write(self, result: FrameResult) -> None:
        """Show one frame; raises Stop when the person has seen enough."""
        title = self._title(result.frame.source)
        cv2.imshow(title, annotate(result, self._look))
        key = cv2.waitKey(0 if self._hold else 1) & 0xFF
        if key in (ord("q"), 27) or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            raise Stop

    def tell(self, event: SourceEvent) -> None:
        """The last picture stays."""

    def close(self) -> None:
        cv2.destroyAllWindows()


class TerminalSink:
    """A line per frame for a person, where nothing else is written."""

    def __init__(self, say: Callable[[str], None], level: float | None) -> None:
        self._say, self._level = say, level

    def write(self, result: FrameResult) -> None:
        """Say where, and each face's number, range and word."""
        where = result.frame.file or f"{result.frame.time_s:8.2f} s"
        self._say(f"{where}: " + ("; ".join(self._face(face) for face in result.faces) or "no face"))

    def _face(self, face: Face) -> str:
        track = "" if face.track_id is None else f" #{face.track_id}"
        if face.reading is None:
            return f"? ({face.reason}){track}"
        text = f"{face.reading.value:.0f}"
        if self._level is not None and face.reading.is_calibrated:
            low, high = face.reading.interval(self._level)
            text += f" ({low:.0f}-{high:.0f})"
        return f"{text} {face.reading.bin}{track}"

    def tell(self, event: SourceEvent) -> None:
        """Events are said on stderr by the run itself."""

    def close(self) -> None:
        """Nothing to let go of."""
