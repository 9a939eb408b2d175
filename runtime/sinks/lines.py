"""Results as text: JSON lines, a CSV table, or lines for people. Each writes complete records only."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence

from ..contract.spec import TaskSpec
from ..live.frames import SourceEvent
from ..live.results import HEAD, FrameResult, columns_of, rows_of
from .line_file import LineFile
from .sink import LineOf, json_line


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


class CsvSink:
    """A CSV table with one row per face; with counts only, one row per frame."""

    def __init__(self, where: str, task: TaskSpec, level: float | None, counts: bool) -> None:
        self._file, self._level, self._counts = LineFile(where, "--csv"), level, counts
        self._columns = (*HEAD, *task.words, "unread") if counts else columns_of(task)
        self._append([dict(zip(self._columns, self._columns, strict=True))])

    def write(self, result: FrameResult) -> None:
        """Append the rows of one frame at once."""
        if self._counts:
            self._append([{**result.to_counts(), **result.counts}])
        else:
            self._append(rows_of(result, self._level))

    def _append(self, rows: Sequence[Mapping[str, object]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, extrasaction="ignore", lineterminator="\n")
        writer.writerows(rows)
        self._file.append(text.getvalue().encode())

    def tell(self, event: SourceEvent) -> None:
        """Ignore events: the table has no rows for them."""

    def close(self) -> None:
        self._file.close()


def _counted(result: FrameResult) -> str:
    """The number of faces per word, as text for people."""
    unread = sum(face.reading is None for face in result.faces)
    told = [f"{many} {word}" for word, many in result.counts.items() if many]
    return ", ".join([*told, *([f"{unread} without an estimate"] if unread else [])]) or "no face"


class TerminalSink:
    """One printed line per frame, if there is no other output."""

    def __init__(
        self, say: Callable[[str], None], level: float | None, named: bool = False, counts: bool = False
    ) -> None:
        """named: print the source's name too. counts: print the number of faces per word alone."""
        self._say, self._level, self._named, self._counts = say, level, named, counts

    def write(self, result: FrameResult) -> None:
        """Print the picture or time, and each face's value, range, word and gate answer."""
        where = result.frame.file or f"{result.frame.time_s:8.2f} s"
        source = f"{result.frame.source} " if self._named else ""
        self._say(f"{source}{where}: {_counted(result) if self._counts else result.describe(self._level)}")

    def tell(self, event: SourceEvent) -> None:
        """Ignore events: the run logs them itself."""

    def close(self) -> None:
        """Nothing to close."""
