"""An append-only file of JSON lines in which each line holds the SHA-256 of the one before.

FILE.head beside it says how many lines there are, how many bytes, and the last line's hash, so that a cut at the end shows
too. Processes that write one file take turns by a lock on the head. A line is in the file, and the head says so, when
`append` returns; one that does not fit is taken back. Whoever may write both files can make a new chain: keep the head's
hash elsewhere, or sign the lines.
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

NOTHING = "0" * 64  # stands before the first line
HEAD_BYTES = 20 + 1 + 20 + 1 + 64 + 1
OWN = ("n", "before")  # the fields that the file itself gives a line

Line = dict[str, Json]


@dataclass(frozen=True)
class Head:
    """What the file holds, by its own account."""

    lines: int = 0
    size: int = 0  # bytes
    last: str = NOTHING  # SHA-256 of the last line

    @staticmethod
    def parse(data: bytes) -> Head | None:
        """None where this is no head."""
        try:
            lines, size, last = data.decode("ascii").split()
            head = Head(int(lines), int(size), last)
        except (UnicodeDecodeError, ValueError):
            return None
        return head if head.data == data else None

    @property
    def data(self) -> bytes:
        """Always HEAD_BYTES long: writing it over another needs no room on the disk."""
        return f"{self.lines:020d} {self.size:020d} {self.last}\n".encode("ascii")

    def after(self, line: bytes) -> Head:
        """The head with one more line, its newline included."""
        return Head(self.lines + 1, self.size + len(line), digest(line))


def head_of(path: Path) -> Path:
    """Where the head of an audit file lies."""
    return path.with_name(f"{path.name}.head")


def digest(line: bytes) -> str:
    """The hash of a line, its newline included."""
    return hashlib.sha256(line).hexdigest()


def to_line(record: Mapping[str, Json]) -> bytes:
    """A record as it stands in the file."""
    return (json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n").encode()


class AuditFile:
    """Opened for appending; several processes may have it open."""

    def __init__(self, path: Path) -> None:
        """Create or go on; raises OutputError where it cannot be written, or is no whole chain."""
        self.path = path
        try:
            self._head = os.open(head_of(path), os.O_RDWR | os.O_CREAT, 0o600)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with self._locked():
                self._current()
        except OSError as error:
            raise OutputError(f"cannot write {path} ({error.strerror}); give another --audit FILE") from None

    def append(self, record: Mapping[str, Json]) -> None:
        """Append a record as the next line; raises OutputError, with the chain as it was, where there is no room."""
        try:
            with self._locked():
                head = self._current()
                line = to_line({"n": head.lines, "before": head.last, **record})
                self._write(line, head.size)
                os.pwrite(self._head, head.after(line).data, 0)
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path} ({error.strerror}); free space; the file ends with the last whole line"
            ) from None

    def close(self) -> None:
        """Let go of both files."""
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
            raise OutputError(f"cannot write {self.path}: expected a system with flock, such as Linux") from None
        fcntl.flock(self._head, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._head, fcntl.LOCK_UN)

    def _current(self) -> Head:
        """The head, which a process that was killed in the middle of a line may have left one line behind, or a part of one."""
        size, raw = os.fstat(self._file).st_size, os.pread(self._head, HEAD_BYTES + 1, 0)
        head = Head() if raw == b"" and size == 0 else Head.parse(raw)
        if head is None or size < head.size:
            raise OutputError(f"{self.path}: expected a whole chain, it was changed; numclip audit verify says where")
        tail = os.pread(self._file, size - head.size, head.size)
        if b"\n" not in tail:  # empty, or the beginning of a line
            os.ftruncate(self._file, head.size)
        elif _follows(tail, head):
            head = head.after(tail)
        else:
            raise OutputError(f"{self.path}: expected a whole chain, it was changed; numclip audit verify says where")
        if head.data != raw:
            os.pwrite(self._head, head.data, 0)
        return head


@dataclass(frozen=True)
class AuditReport:
    """What a check of an audit file found."""

    lines: int  # that hold, from the first on
    runs: int
    answers: Mapping[str, int]  # yes, no, ask: how often
    last: str  # SHA-256 of the last line
    fault: str | None  # the first fault; None: the chain is whole
    records: tuple[Line, ...] = field(default=(), repr=False)  # the lines that hold

    def to_json(self) -> dict[str, object]:
        """All but the lines."""
        found = {"lines": self.lines, "runs": self.runs, "answers": dict(self.answers), "last": self.last}
        return {**found, "whole": self.fault is None, "fault": self.fault}


def verify_audit(path: Path) -> AuditReport:
    """Follow the chain from the first line to the head; raises OutputError where there is no such file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise OutputError(f"{path}: expected an audit file ({error.strerror})") from None
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
        return f"expected its head in {head_of(path)}; without it nobody can say whether lines at the end are missing"
    behind = stored.lines == found.lines - 1 and stored.last == (records[-1]["before"] if records else NOTHING)
    if stored == found or behind:
        return None
    if stored.lines > found.lines:
        return f"{stored.lines - found.lines} lines are missing at the end"
    return (
        f"its head says {stored.lines} lines and hash {stored.last[:12]}…, found {found.lines} and {found.last[:12]}…"
    )


def _follows(line: bytes, head: Head) -> bool:
    """Whether a line is whole and the next one after a head."""
    if not line.endswith(b"\n") or line.count(b"\n") != 1:
        return False
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and (record.get("n"), record.get("before")) == (head.lines, head.last)
