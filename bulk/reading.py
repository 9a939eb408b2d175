"""Read one unit of work: turn its inputs into rows. Local workers and Ray actors run the same code."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from ..errors import DeviceError, ModelError, NumclipError, SourceError
from ..runtime.contract.model_file import graph_sha256, resolve
from ..runtime.faces.opening import enlarging, open_detector
from ..runtime.live.frames import Frame
from ..runtime.live.pictures import Kind, kind_of, kind_of_data, pictures_in
from ..runtime.live.pipeline import Pipeline, Rules
from ..runtime.live.reading import stream
from ..runtime.live.results import Face, FrameResult
from ..runtime.sessions.engine_file import read_sidecar
from ..runtime.sessions.model import load
from .inputs import READ_FAULTS, Input, Unit
from .options import STAGES, BulkOptions
from .schema import FACES, INPUTS, printable
from .store import Store

BATCH = 16  # pictures whose faces the model reads in one call
MAX_BYTES = 1 << 30  # largest file of one picture
URL_SECONDS = 30.0  # timeout of a download
LOST_S = 10.0  # a person not seen for this long has left the video
DEATHS = 2  # crashes while an input is read alone; then the input is an error and is not tried again
UNEXPLAINED = 2  # crashes in a unit before its inputs are read one by one
Row = dict[str, object]  # of the faces table


@dataclass
class InputRow:
    """Result of one input; apart from `taken`, a row of the inputs table."""

    source: str
    sha256: str | None = None
    faces: int = 0
    error: str | None = None
    duplicate_of: str | None = None
    taken: datetime | None = None


@dataclass
class UnitDone:
    """Counts of a finished unit, for the progress bar and the summary."""

    unit: str
    inputs: int = 0
    faces: int = 0
    errors: int = 0
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict[str, float].fromkeys(STAGES, 0.0))


class UnitReader:
    """Reads units with a model and a detector, which are opened once per process."""

    def __init__(self, options: BulkOptions) -> None:
        self._options = options
        self._model = load(options.model, options.device, 1)
        self._video_detector = open_detector(
            options.detector, smallest_face_px=options.min_face_px, device=options.device, threads=1
        )
        self._store = Store(options.out, options.shard)
        self._rules = Rules(max_faces=options.max_faces, min_face_px=options.min_face_px)
        self._pipeline = Pipeline(self._model, enlarging(self._video_detector), self._rules, tracks=False)
        calibration = self._model.spec.calibration
        self._level = None if calibration is None else calibration.table.check_level(options.level)
        self._constant: Row = {"model_sha256": model_sha256(resolve(options.model)), "numclip": version("numclip")}

    def read(self, unit: Unit) -> UnitDone:
        """Read a unit's inputs and commit its rows. Of a duplicate only the name of the identical source is stored."""
        done = UnitDone(unit.name)
        faces: list[Row] = []
        inputs: list[InputRow] = []
        waiting: list[tuple[InputRow, list[Frame]]] = []
        journal = Journal(self._store.units / f"{unit.name}.journal")
        for at, (found, opened) in enumerate(_opened(unit.inputs)):
            row = InputRow(printable(found.source))
            inputs.append(row)
            if found.duplicate_of:
                row.duplicate_of = printable(found.duplicate_of)
                continue
            if journal.deaths(at) >= DEATHS:
                row.error = f"{row.source}: skipped, because reading it crashed the process {DEATHS} times (out of memory, or a library crash)"
                continue
            journal.begin(at)
            try:
                if found.fault:
                    raise SourceError(found.fault)
                if found.size != 0 and opened.kind() == "video":
                    faces += self._video(opened, row)
                else:
                    waiting.append((row, self._pictures(found, opened, row, done)))
            except DeviceError:  # not the input's fault: the run ends, and continues here when it is repeated
                raise
            except NumclipError as error:
                row.error = str(error)
            except MemoryError:
                row.error = f"{row.source}: not enough memory to read it"
            if len(waiting) >= BATCH or (waiting and journal.careful):
                faces += self._answer_each(waiting, done)
                waiting = []
        faces += self._answer_each(waiting, done)
        started_s = time.perf_counter()
        done.inputs, done.faces = len(inputs), len(faces)
        done.errors = sum(row.error is not None for row in inputs)
        self._store.commit(
            unit.name, pa.Table.from_pylist(faces, FACES), pa.Table.from_pylist(list(map(vars, inputs)), INPUTS)
        )
        journal.remove()
        done.stage_seconds["write"] += time.perf_counter() - started_s
        return done

    def _pictures(self, found: Input, opened: _Opened, row: InputRow, done: UnitDone) -> list[Frame]:
        """Decode the pictures of one file; put its hash and time into `row`."""
        started_s = time.perf_counter()
        data = opened.all()
        row.sha256 = hashlib.sha256(data).hexdigest()
        row.taken = _taken(data)
        read_s = time.perf_counter()
        frames = [
            Frame(image, index, 0.0, read_s, found.source) for index, image in enumerate(pictures_in(data, row.source))
        ]
        done.stage_seconds["read"] += read_s - started_s
        done.stage_seconds["decode"] += time.perf_counter() - read_s
        return frames

    def _answer_each(self, waiting: Sequence[tuple[InputRow, list[Frame]]], done: UnitDone) -> list[Row]:
        """Return the rows of decoded pictures. If the graphs fail on them, each is read alone, and those that fail get the error."""
        try:
            return self._answer(waiting, done)
        except ModelError as error:
            if len(waiting) > 1:
                return [row for one in waiting for row in self._answer_each([one], done)]
            waiting[0][0].error = f"{waiting[0][0].source}: {error}"
            return []

    def _answer(self, waiting: Sequence[tuple[InputRow, list[Frame]]], done: UnitDone) -> list[Row]:
        """Return the rows of decoded pictures: detect faces picture by picture, then run the model once for all."""
        started_s = time.perf_counter()
        sights = self._pipeline.seer.see([frame for _, frames in waiting for frame in frames])
        found_s = time.perf_counter()
        answered, _ = self._pipeline.answerer.answer(sights)
        results = iter(answered)
        rows: list[Row] = []
        for row, frames in waiting:
            for frame, result in zip(frames, results, strict=False):
                mine = [self.row(row, face, frame.index) for face in result.faces]
                row.faces += len(mine)
                rows += mine
        done.stage_seconds["find"] += found_s - started_s
        done.stage_seconds["age"] += time.perf_counter() - found_s
        return rows

    def _video(self, opened: _Opened, row: InputRow) -> list[Row]:
        """Return the rows of a video, in the order of their first frame."""
        with opened.as_file() as path:
            row.sha256 = _file_sha256(path)
            results = self._results(path, row)
            rows = list(_tracks(row, results, self) if self._options.video == "track" else self._frames(row, results))
        row.faces = len(rows)
        return rows

    def _results(self, path: Path, row: InputRow) -> Iterator[FrameResult]:
        """Yield the results of a video. If it is damaged they end early, and `row` gets the error."""
        try:
            yield from stream(path, self._model, self._video_detector, self._rules)
        except SourceError as error:  # name the archive member, not its temporary copy
            row.error = str(error).replace(str(path), row.source)

    def _frames(self, row: InputRow, results: Iterator[FrameResult]) -> Iterator[Row]:
        every_s = 0.0 if self._options.video == "frame" else float(self._options.video)
        due_s = 0.0
        for result in results:
            if result.frame.time_s + 1e-9 < due_s:
                continue
            due_s = (result.frame.time_s // every_s + 1) * every_s if every_s else 0.0
            for face in result.faces:
                yield self.frame_row(row, face, result)

    def frame_row(self, of: InputRow, face: Face, result: FrameResult) -> Row:
        """Return the row of a face in one frame of a video."""
        return {
            **self.row(of, face, result.frame.index),
            "time_s": result.frame.time_s,
            "track": face.track_id,
        }

    def row(self, of: InputRow, face: Face, index: int) -> Row:
        """Return the row of a face. index: number of its page or frame."""
        reading = face.reading
        low = high = None
        if reading is not None and self._level is not None:
            low, high = reading.interval(self._level)
        return {
            "source": of.source,
            "sha256": of.sha256,
            "taken": of.taken,
            "index": index,
            "box": list(face.box_xyxy),
            "landmarks": None if face.landmarks is None else face.landmarks.reshape(-1).tolist(),
            "score": face.score,
            "value": None if reading is None else reading.value,
            "low": low,
            "high": high,
            "level": None if low is None else self._level,
            "word": None if reading is None else reading.bin,
            "probabilities": None if reading is None else reading.probabilities.tolist(),
            "reason": face.reason,
            **self._constant,
        }


@dataclass
class _Track:
    """A tracked person so far."""

    number: int
    first_s: float
    last_s: float
    frames: int
    largest_px: float
    index: int
    face: Face  # the face with the largest box
    latest: Face  # the face with the latest estimate


def _tracks(of: InputRow, results: Iterator[FrameResult], reader: UnitReader) -> Iterator[Row]:
    """Yield one row per person: the final estimate and the box of the largest face. Only people in view are held in memory.

    Slides and videos of one or two frames have no tracks: each face of each frame is a row.
    """
    tracks: dict[int, _Track] = {}
    for result in results:
        now_s = result.frame.time_s
        for face in result.faces:
            if face.track_id is None:
                yield reader.frame_row(of, face, result)
                continue
            x1, y1, x2, y2 = face.box_xyxy
            size_px = (x2 - x1) * (y2 - y1)
            track = tracks.get(face.track_id)
            if track is None:
                tracks[face.track_id] = _Track(face.track_id, now_s, now_s, 1, size_px, result.frame.index, face, face)
                continue
            track.last_s, track.frames = now_s, track.frames + 1
            if face.reading is not None or track.latest.reading is None:
                track.latest = face
            if size_px > track.largest_px:
                track.largest_px, track.index, track.face = size_px, result.frame.index, face
        for number in [n for n, track in tracks.items() if now_s - track.last_s > LOST_S]:
            yield _track_row(of, tracks.pop(number), reader)
    for track in tracks.values():
        yield _track_row(of, track, reader)


def _track_row(of: InputRow, track: _Track, reader: UnitReader) -> Row:
    row = reader.row(of, track.latest, track.index)
    largest = reader.row(of, track.face, track.index)
    return {
        **row,
        **{name: largest[name] for name in ("box", "landmarks", "score")},
        "time_s": track.first_s,
        "end_s": track.last_s,
        "track": track.number,
        "frames": track.frames,
    }


class Journal:
    """Record on disk which input of a unit is being read: after a crash the next process knows which input caused it.

    It lasts for one run; a run that is continued starts without it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        before = path.read_text().split() if path.is_file() else []
        last = before[-1:]  # the last input begun was being read at the crash
        self._deaths = [int(word[1:]) for word in before if word.startswith("d")]
        self._file = path.open("a")
        if last and not last[0].startswith("d"):
            self._deaths.append(int(last[0]))
            self._write(f"d{last[0]}")
        # One crash may have nothing to do with the inputs, so the unit is read again as before. From the second crash on, each
        # input is finished before the next begins, so a crash is caused by that input.
        self.careful = len(self._deaths) >= UNEXPLAINED

    def deaths(self, at: int) -> int:
        """Return how often a process crashed while it read this input alone."""
        return self._deaths[UNEXPLAINED:].count(at)

    def begin(self, at: int) -> None:
        """Record that reading of this input begins."""
        self._write(str(at))

    def remove(self) -> None:
        """Delete the journal of a finished unit."""
        self._file.close()
        with suppress(OSError):
            self._path.unlink()

    def _write(self, word: str) -> None:
        self._file.write(word + "\n")
        self._file.flush()


class _Opened:
    """The bytes of one input, read on demand."""

    def __init__(self, found: Input, archive: zipfile.ZipFile | None = None, data: bytes | None = None) -> None:
        """archive: the open .zip that holds it; None: opened for this input."""
        self._found, self._archive, self._data = found, archive, data

    def kind(self) -> Kind:
        """Return the type of the input, detected from its content."""
        return kind_of(Path(self._found.path)) if self._found.place == "file" else kind_of_data(self.all())

    def all(self) -> bytes:
        """Return all bytes."""
        if self._data is None:
            if self._found.size > MAX_BYTES:
                raise SourceError(
                    f"{printable(self._found.source)}: expected a picture of at most 1 GB, got {self._found.size / 1e9:.1f} GB"
                )
            try:
                self._data = self._read()
            except READ_FAULTS as error:
                reason = getattr(error, "strerror", None) or error
                raise SourceError(
                    f"{printable(self._found.source)}: cannot be read ({reason}); {self._advice(error)}"
                ) from None
        return self._data

    def _advice(self, error: Exception) -> str:
        if self._found.place == "url":
            web = self._found.path.startswith(("http://", "https://"))
            return "check the address" + ("; in it, a space is written as %20" if web else "")
        if self._found.place == "file":
            return "check that it exists and that you may read it"
        if isinstance(error, RuntimeError):  # protected by a password, or compressed by an unknown method
            return "unpack the archive with another program, and give the folder"
        return "copy the archive again"

    def _read(self) -> bytes:
        found = self._found
        if found.place == "file":
            return Path(found.path).read_bytes()
        if found.place == "tar":
            with open(found.path, "rb") as file:
                file.seek(found.offset)
                data = file.read(found.size)
            if len(data) < found.size:
                raise EOFError("the archive is truncated")
            return data
        if found.place == "zip":
            if self._archive is not None:
                return self._archive.read(found.member)
            with zipfile.ZipFile(found.path) as archive:
                return archive.read(found.member)
        if found.path.startswith(("http://", "https://")):
            with urllib.request.urlopen(found.path, timeout=URL_SECONDS) as answer:
                return answer.read(MAX_BYTES)
        import fsspec

        try:
            with fsspec.open(found.path, "rb") as file:
                return file.read()  # pyright: ignore[reportAttributeAccessIssue]  (fsspec's own file type is untyped)
        except MemoryError:
            raise
        except Exception as error:  # the packages of fsspec raise errors of their own
            raise OSError(str(error)) from None

    def as_file(self) -> _AsFile:
        """Return a path on disk: the file itself, or a temporary copy of an archive member."""
        return _AsFile(self._found, self)


class _AsFile:
    def __init__(self, found: Input, opened: _Opened) -> None:
        self._found, self._opened, self._copy = found, opened, None

    def __enter__(self) -> Path:
        if self._found.place == "file":
            return Path(self._found.path)
        suffix = Path(self._found.member or self._found.path).suffix
        with tempfile.NamedTemporaryFile(prefix="numclip-bulk-", suffix=suffix, delete=False) as file:
            file.write(self._opened.all())
        self._copy = Path(file.name)
        return self._copy

    def __exit__(self, *_: object) -> None:
        if self._copy is not None:
            self._copy.unlink(missing_ok=True)


def _opened(inputs: Sequence[Input]) -> Iterator[tuple[Input, _Opened]]:
    """Yield each input with access to its bytes. A compressed .tar is read once, from its start; a .zip is opened once."""
    if inputs and inputs[0].place == "tar-stream":
        yield from _streamed(inputs)
        return
    for path, group in groupby(inputs, key=lambda found: found.path if found.place == "zip" else None):
        archive = None
        if path is not None:
            with suppress(*READ_FAULTS):  # reading its members then says why
                archive = zipfile.ZipFile(path)
        with archive or nullcontext():
            for found in group:
                yield found, _Opened(found, archive)


def _streamed(inputs: Sequence[Input]) -> Iterator[tuple[Input, _Opened]]:
    wanted = iter(inputs)
    found = next(wanted, None)
    try:
        with tarfile.open(inputs[0].path, "r|*") as archive:
            for member in archive:
                if found is None or member.offset_data != found.offset:
                    continue
                file = archive.extractfile(member)
                data = b"" if file is None else file.read()
                yield found, _Opened(found, data=data)
                found = next(wanted, None)
    except READ_FAULTS as error:
        while found is not None:
            fault = f"{printable(found.source)}: cannot be read ({error}); copy the archive again"
            yield Input(found.source, found.place, found.path, found.member, fault=fault), _Opened(found, data=b"")
            found = next(wanted, None)


def model_sha256(path: Path) -> str:
    """Return the hash of a model's graph; for an engine, of the graph that it was built from."""
    return read_sidecar(path)[1].graph_sha256 if path.suffix == ".engine" else graph_sha256(path)


def content_of(found: Input) -> bytes:
    """Return an input's bytes. Raises SourceError if they cannot be read."""
    return _Opened(found).all()


def content_sha256(found: Input) -> str | None:
    """Return the hash of an input's bytes; None if they cannot be read."""
    try:
        return hashlib.sha256(content_of(found)).hexdigest()
    except SourceError:
        return None


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise SourceError(f"{printable(os.fspath(path))}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def _taken(data: bytes) -> datetime | None:
    """Return when a picture was taken, from its EXIF data; None if they do not tell, or are damaged in any way."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            exif = image.getexif()
            text = exif.get_ifd(0x8769).get(0x9003) or exif.get(0x0132)
        return datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S") if text else None
    except Exception:  # Pillow raises many kinds for damaged data, such as struct.error
        return None
