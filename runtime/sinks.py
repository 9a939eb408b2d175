"""Where results go: JSON lines, an annotated video, a window. Each is written in place, whole records at a time."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Protocol

import cv2

from ..errors import SinkError
from .drawing import Look, annotate
from .frames import FrameResult, Source
from .video_writer import VideoWriter


class Sink(Protocol):
    """Takes every result once, in order."""

    def write(self, result: FrameResult) -> None: ...

    def close(self) -> None: ...


class Stop(Exception):
    """The person at the window wants no more."""


class JsonlSink:
    """One JSON line per frame, to a file or stdout; what is written is written whole, whatever happens next."""

    def __init__(self, where: str, level: float | None) -> None:
        self._where, self._level = where, level
        try:
            self._file = (
                os.dup(sys.stdout.fileno())
                if where == "-"
                else os.open(where, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            )
        except OSError as error:
            raise SinkError(f"cannot write {where} ({error.strerror}); give another --jsonl FILE") from None

    def write(self, result: FrameResult) -> None:
        """Append one line; if it does not fit, take its beginning back and raise SinkError."""
        self._append((json.dumps(result.to_json(self._level), ensure_ascii=False) + "\n").encode())

    def _append(self, line: bytes) -> None:
        done = 0
        try:
            while done < len(line):
                done += os.write(self._file, line[done:])
        except BrokenPipeError:
            raise
        except OSError as error:
            self._take_back(done)
            raise SinkError(
                f"cannot write {self._where} ({error.strerror}); free space; the file ends with the last whole line"
            ) from None
        except KeyboardInterrupt:
            self._take_back(done)
            raise

    def _take_back(self, done: int) -> None:
        try:
            os.ftruncate(self._file, os.lseek(self._file, -done, os.SEEK_CUR))
        except OSError as error:  # a pipe or terminal cannot take back
            if error.errno not in (errno.EINVAL, errno.ESPIPE):
                raise

    def close(self) -> None:
        os.close(self._file)


class VideoSink:
    """The annotated frames as an mp4."""

    def __init__(self, path: Path, source: Source, look: Look) -> None:
        self._writer = VideoWriter(path, source.fps)
        self._look, self._stills, self._count = look, source.stills, 0

    def write(self, result: FrameResult) -> None:
        """Append one frame at its own time; pictures of a folder follow each other at one per second."""
        time_s = float(self._count) if self._stills else result.frame.time_s
        self._writer.write(annotate(result, self._look), time_s)
        self._count += 1

    def close(self) -> None:
        self._writer.close()


class WindowSink:
    """A window that shows the annotated frames; q, Esc or closing it stops the run."""

    TITLE = "numclip"

    def __init__(self, look: Look, hold: bool) -> None:
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise SinkError("--show: expected a screen, neither DISPLAY nor WAYLAND_DISPLAY is set; use --save FILE")
        self._look, self._hold = look, hold
        try:
            cv2.namedWindow(self.TITLE, cv2.WINDOW_NORMAL)
        except cv2.error:
            raise SinkError(
                "--show: expected an OpenCV with windows, this build has none; use numclip[cpu] or --save"
            ) from None

    def write(self, result: FrameResult) -> None:
        cv2.imshow(self.TITLE, annotate(result, self._look))
        key = cv2.waitKey(0 if self._hold else 1) & 0xFF
        if key in (ord("q"), 27) or cv2.getWindowProperty(self.TITLE, cv2.WND_PROP_VISIBLE) < 1:
            raise Stop

    def close(self) -> None:
        cv2.destroyAllWindows()
