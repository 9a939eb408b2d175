"""An append-only file of JSON lines, in which each line contains the SHA-256 of the line before.

FILE.head records the number of lines and bytes and the last line's hash, so that missing lines at the end are detected too.
Processes that write the same file take turns, by a lock on the head. When `append` returns, the line is in the file and in the
head; a line that does not fit is removed again. Somebody who can write both files can replace the whole chain: to detect that,
store the head's hash elsewhere, or sign the lines.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from ...errors import OutputError
from ..contract.fields import Json

NOTHING = "0" * 64  # the hash before the first line
HEAD_BYTES = 20 + 1 + 20 + 1 + 64 + 1
OWN = ("n", "before")  # the fields that the file adds to a line

Line = dict[str, Json]


@dataclass(frozen=True)
class Head:
    """The recorded state of the file."""

    lines: int = 0
    size: int = 0  # bytes
    last: str = NOTHING  # SHA-256 of the last line

    @staticmethod
    def parse(data: bytes) -> Head | None:
        """Read a head; None if the bytes are not one."""
        try:
            lines, size, last = data.decode("ascii").split()
            head = Head(int(lines), int(size), last)
        except (UnicodeDecodeError, ValueError):
            return None
        return head if head.data == data else None

    @property
    def data(self) -> bytes:
        """The head as HEAD_BYTES bytes: overwriting it needs no further disk space."""
        return f"{self.lines:020d} {self.size:020d} {self.last}\n".encode("ascii")

    def after(self, line: bytes) -> Head:
        """The head after one more line, which includes its newline."""
        return Head(self.lines + 1, self.size + len(line), digest(line))


def head_of(path: Path) -> Path:
    """The path of an audit file's head."""
    return path.with_name(f"{path.name}.head")


def digest(line: bytes) -> str:
    """The hash of a line with its newline."""
    return hashlib.sha256(line).hexdigest()


def to_line(record: Mapping[str, Json]) -> bytes:
    """A record as a line of the file."""
    return (json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n").encode()


class AuditFile:
    """An audit file that is open for appending; several processes may open it."""

    def __init__(self, path: Path) -> None:
        """Create the file, or continue it; raises OutputError if it cannot be written, or was altered."""
        self.path = path
        try:
            self._head = os.open(head_of(path), os.O_RDWR | os.O_CREAT, 0o600)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with self._locked():
                self._current()
        except OSError as error:
            raise OutputError(f"cannot write {path} ({error.strerror}); give another --audit FILE") from None

    def append(self, record: Mapping[str, Json]) -> None:
        """Append a record as the next line; raises OutputError if there is no space, and then leaves the file unchanged."""
        try:
            with self._locked():
                head = self._current()
                line = to_line({"n": head.lines, "before": head.last, **record})
                self._write(line, head.size)
                os.pwrite(self._head, head.after(line).data, 0)
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path} ({error.strerror}); free disk space. The file ends with the last complete line"
            ) from None

    def close(self) -> None:
        """Close both files."""
        os.close(self._file)
        os.close(self._head)

    def _write(self, line: bytes, size: int) -> None:
        done = 0
        try:
            while done < len(line):
                done += os.write(self._file, line[done:])
        except BaseException:
            os.ftruncate(self._file, size)
            raise

    @contextmanager
    def _locked(self) -> Generator[None]:
        try:
            import fcntl
        except ImportError:
            raise OutputError(
                f"cannot write {self.path}: needs a system with flock, such as Linux; leave --audit out on this one"
            ) from None
        fcntl.flock(self._head, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._head, fcntl.LOCK_UN)

    def _current(self) -> Head:
        """The head. A process that was killed while writing may have left it one line behind, or left part of a line."""
        size, raw = os.fstat(self._file).st_size, os.pread(self._head, HEAD_BYTES + 1, 0)
        head = Head() if raw == b"" and size == 0 else Head.parse(raw)
        if head is None or size < head.size:
            raise OutputError(
                f"{self.path}: the existing audit file was altered; numclip audit verify shows where. Give another --audit FILE"
            )
        tail = os.pread(self._file, size - head.size, head.size)
        if b"\n" not in tail:  # empty, or the beginning of a line
            os.ftruncate(self._file, head.size)
        elif _follows(tail, head):
            head = head.after(tail)
        else:
            raise OutputError(
                f"{self.path}: the existing audit file was altered; numclip audit verify shows where. Give another --audit FILE"
            )
        if head.data != raw:
            os.pwrite(self._head, head.data, 0)
        return head


@dataclass(frozen=True)
class AuditReport:
    """The result of checking an audit file."""

    lines: int  # number of valid lines, from the first on
    runs: int
    answers: Mapping[str, int]  # how often each of yes, no and ask was given
    last: str  # SHA-256 of the last line
    fault: str | None  # the first problem; None: no line was altered
    records: tuple[Line, ...] = field(default=(), repr=False)  # the valid lines

    def to_json(self) -> dict[str, object]:
        """Everything except the lines."""
        found = {"lines": self.lines, "runs": self.runs, "answers": dict(self.answers), "last": self.last}
        return {**found, "whole": self.fault is None, "fault": self.fault}


def verify_audit(path: Path) -> AuditReport:
    """Check every line from the first to the head; raises OutputError if the file cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise OutputError(f"{path}: cannot read the audit file ({error.strerror}); correct the path") from None
    head, fault, records = Head(), None, list[Line]()
    for line in io.BytesIO(data):
        if not _follows(line, head):
            fault = f"line {head.lines + 1} does not follow from the one before: one of the two was changed, dropped or moved"
            break
        head = head.after(line)
        records.append(cast(Line, json.loads(line)))
    if fault is None:
        fault = _unlike_head(path, head, records)
    answers = Counter(str(record.get("answer")) for record in records if record.get("kind") == "answer")
    runs = sum(record.get("kind") == "run" for record in records)
    return AuditReport(head.lines, runs, answers, head.last, fault, tuple(records))


def _unlike_head(path: Path, found: Head, records: list[Line]) -> str | None:
    try:
        stored = Head.parse(head_of(path).read_bytes())
    except OSError:
        stored = None
    if stored is None:
        return f"its head file {head_of(path)} is missing; without it, missing lines at the end cannot be detected"
    behind = stored.lines == found.lines - 1 and stored.last == (records[-1]["before"] if records else NOTHING)
    if stored == found or behind:
        return None
    if stored.lines > found.lines:
        return f"{stored.lines - found.lines} lines are missing at the end"
    return (
        f"its head file records {stored.lines} lines and hash {stored.last[:12]}…, but the file has {found.lines} "
        f"lines and {found.last[:12]}…"
    )


def _follows(line: bytes, head: Head) -> bool:
    """Whether a line is complete and follows the head."""
    if not line.endswith(b"\n") or line.count(b"\n") != 1:
        return False
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and (record.get("n"), record.get("before")) == (head.lines, head.last)
