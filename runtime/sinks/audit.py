"""The audit trail of a gate: each answer, its reason, and the source, model, calibration and settings behind it; nothing about the
person.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from ...errors import DataError, UsageError
from ..contract.fields import Json, to_text
from ..contract.gate import Answer
from ..contract.spec import ModelSpec
from ..live.frames import SourceEvent
from ..live.results import Face, FrameResult
from ..system import installed
from .audit_file import OWN, AuditFile, AuditReport, Line, verify_audit
from .verdicts import Checker, Signer

TRACKS = 4096  # number of tracks whose last answer is kept
WHY = {"yes": "above the limit", "no": "below the limit", "ask": "between the limits"}


@dataclass(frozen=True)
class AuditOptions:
    """What to write into the audit file."""

    file: Path
    """Append to this file; FILE.head is in the same folder."""
    ages: bool = False
    """Write ages and intervals too."""
    key: Path | None = None
    """Sign each answer with this P-256 private key (PEM)."""
    nonce: str = ""
    """Text to sign with each answer, chosen by whoever will check it."""

    def __post_init__(self) -> None:
        """Raise UsageError for a nonce without a key."""
        if self.nonce and self.key is None:
            raise UsageError("expected --sign KEY together with --nonce; add --sign KEY")


class AuditSink:
    """Writes one line when a run begins, one for every new answer, and one when the run ends."""

    def __init__(
        self,
        options: AuditOptions,
        spec: ModelSpec,
        settings: dict[str, Json],
        sources: Sequence[str],
        *,
        tracks: bool = True,
    ) -> None:
        """settings: everything that an answer depends on, besides model and calibration. sources: their names, in the order of the
        command line; an answer has its source's place in this list. tracks: whether an answer names its track. Raises OutputError,
        UsageError, DeviceError.
        """
        self._tracks = tracks
        self._options, self._run, self._count = options, secrets.token_hex(8), 0
        self._signer = None if options.key is None else Signer(options.key, options.nonce)
        calibration = spec.calibration
        assert calibration is not None  # a gate was opened
        self._made_by: Line = {
            "model": calibration.graph_sha256,
            "calibration": _sha256(to_text(calibration.to_json())),
            "settings": _sha256(to_text(settings)),
        }
        self._sources = {name: number for number, name in enumerate(sources)}
        self._said: OrderedDict[tuple[int, int], tuple[str, str]] = OrderedDict()  # by source and track
        self._file = AuditFile(options.file)
        about: Line = {
            "name": spec.name,
            "numclip": installed(("numclip",)).get("numclip", "unknown"),
            "settings_are": settings,
            "sources": list(sources),
        }
        self._append({"kind": "run", **self._made_by, **about})

    def write(self, result: FrameResult) -> None:
        """Append each face's new answer; raises OutputError."""
        source = self._sources[result.frame.source]
        for face in result.faces:
            if face.gate is None:
                continue
            answer = face.gate
            why = (face.reason or "no look yet") if answer.looks == 0 else WHY[answer.answer]
            if face.track_id is not None:
                track = source, face.track_id
                if self._said.pop(track, None) == (answer.answer, why):
                    self._said[track] = answer.answer, why
                    continue
                self._said[track] = answer.answer, why
                if len(self._said) > TRACKS:
                    self._said.popitem(last=False)
            self._append(self._record(result, source, face, answer, why))

    def tell(self, event: SourceEvent) -> None:
        """Ignore events of a source: they are not answers."""

    def close(self) -> None:
        """Append the end of the run."""
        try:
            self._append({"kind": "end"})
        finally:
            self._file.close()

    def _record(self, result: FrameResult, source: int, face: Face, answer: Answer, why: str) -> Line:
        record: Line = {
            "kind": "answer",
            "source": source,
            "frame": result.frame.index,
            "time_s": round(result.frame.time_s, 3),
            "track": face.track_id if self._tracks else None,
            "threshold": answer.threshold,
            "error": answer.error,
            "answer": answer.answer,
            "reason": why,
            "looks": answer.looks,
            **self._made_by,
        }
        if self._options.ages:
            low, high = face.interval or (None, None)
            rounded = [None if x is None else round(x, 1) for x in (face.age, low, high)]
            record |= dict(zip(("age", "low", "high"), rounded, strict=True))
        return record

    def _append(self, record: Line) -> None:
        utc = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        record = {"utc": utc, "run": self._run, "id": self._count, **record}
        self._count += 1
        if self._signer is not None and record["kind"] == "answer":
            record["jws"] = self._signer.sign(record)
        self._file.append(record)


def check_audit(path: Path, key: Path | None = None, nonce: str | None = None) -> AuditReport:
    """Check a file's chain of lines and, with a public key, that each answer has a valid signature, this nonce, and occurs only once.

    Raises OutputError if the file cannot be read, UsageError for a file that is not a key.
    """
    if nonce is not None and key is None:
        raise UsageError("expected --key PUBLIC.pem together with --nonce; add --key PUBLIC.pem")
    report = verify_audit(path)
    if key is None or report.fault is not None:
        return report
    return replace(report, fault=_unsigned(report.records, Checker(key), nonce))


def _unsigned(records: tuple[Line, ...], checker: Checker, nonce: str | None) -> str | None:
    """The first answer without a valid signature, as a sentence; None if all are valid."""
    seen: set[tuple[Json, Json]] = set()
    for number, record in enumerate(records, start=1):
        if record.get("kind") != "answer":
            continue
        token, mine = record.get("jws"), {k: v for k, v in record.items() if k not in (*OWN, "jws")}
        if not isinstance(token, str):
            return f"line {number} is not signed"
        try:
            signed = checker.read(token)
        except DataError as error:
            return f"line {number}: {error}"
        given = signed.pop("nonce", None)
        if signed != mine:
            return f"line {number}: its signature belongs to another answer"
        if nonce is not None and given != nonce:
            return f"line {number}: expected the nonce {nonce}, but it was signed with another; it may be a replayed answer"
        if (record["run"], record["id"]) in seen:
            return f"line {number}: repeats an earlier line; it is a replayed answer"
        seen.add((record["run"], record["id"]))
    return None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
