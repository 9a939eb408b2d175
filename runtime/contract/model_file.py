"""Model files on disk: find them, read and rewrite the spec in their metadata, and hash their graph, without the package onnx.

An .onnx file is one protobuf message; `metadata_props` is its field 14, repeated, each a (key, value) message. Walking the
top-level fields is enough to read them, to replace one, and to leave every other byte unchanged.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from ...errors import ModelError, UsageError, did_you_mean
from ..places import write_whole
from .faces_spec import KIND as FACES
from .faces_spec import FacesSpec
from .hub import SCHEME, download
from .spec import ModelSpec, kind_of

MODELS = Path(__file__).parents[1] / "models"
KEY = "numclip"
PRECISIONS = ("fp32", "fp16", "int8")  # of a file's arithmetic
FINDER = "faces-nano"  # the face finder that ships
METADATA_FIELD, GRAPH_FIELD = 14, 7  # of ModelProto
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # protobuf wire types

T = TypeVar("T")


def shipped_models() -> list[str]:
    """The names of the models in this package that read faces; the face finder is `FINDER`."""
    return sorted(p.stem for p in MODELS.glob("*.onnx") if p.stem != FINDER)


def refuse_shipped(out: Path) -> None:
    """Raise UsageError if this file would be written among the models that ship with numclip."""
    if out.resolve().parent == MODELS.resolve():
        raise UsageError(
            f"{out}: its folder contains the models that ship with numclip; write to a file in another folder"
        )


def resolve(name_or_path: str | os.PathLike[str], precision: str | None = None) -> Path:
    """The file of a model: a path, a shipped model's name, or hf://owner/name on the hub.

    precision: fp32, fp16 or int8 selects the file of this precision in the same folder; None: the file itself. Raises ModelError.
    """
    text = os.fspath(name_or_path)
    if precision is not None and precision not in PRECISIONS:
        raise ModelError(f"expected a precision among {', '.join(PRECISIONS)}, got {precision!r}")
    path = download(text, precision) if text.startswith(SCHEME) else _local(text)
    return path if precision is None else _with_precision(path, precision)


def _local(text: str) -> Path:
    path = Path(os.path.expanduser(text))  # keeps an unknown user's ~, for which Path.expanduser raises RuntimeError
    if path.suffix in (".onnx", ".engine") or path.name != text:
        if not path.is_file():
            raise ModelError(f"model {text}: file not found; correct the path")
        return path
    shipped = MODELS / f"{text}.onnx"
    if not shipped.is_file():
        names = shipped_models()
        raise ModelError(
            f"model {text}: expected an .onnx file, {SCHEME}owner/name or one of {', '.join(names) or 'no shipped names'}"
            f"{did_you_mean(text, names)}"
        )
    return shipped


def _with_precision(path: Path, precision: str) -> Path:
    """The file of this precision in the model's folder: NAME.onnx for fp32, NAME.int8.onnx for int8.

    Raises ModelError if it does not exist, or computes in another precision.
    """
    if path.suffix == ".engine":
        raise ModelError(f"{path}: an engine has only one precision; leave --precision out, or give the .onnx file")
    if read_spec(path).graph.precision == precision:
        return path
    stem = path.stem
    for other in PRECISIONS:
        stem = stem.removesuffix(f".{other}")
    found = path.with_name(f"{stem}.onnx" if precision == "fp32" else f"{stem}.{precision}.onnx")
    maker = {"int8": "numclip quantize", "fp16": "numclip export --precision fp16"}.get(precision, "numclip export")
    if not found.is_file():
        raise ModelError(
            f"{path}: expected its {precision} version {found.name} in the same folder, found no such file; make it "
            f"with {maker}"
        )
    if (got := read_spec(found).graph.precision) != precision:
        raise ModelError(
            f"{found}: expected a file that computes in {precision}, but it computes in {got}; make it again with {maker}, "
            "or leave --precision out"
        )
    return found


class Document(Protocol):
    """A file's metadata: a `ModelSpec`, or the spec of another kind of file."""

    def to_json(self) -> str:
        """As one line of JSON."""
        ...


def read_spec(path: Path) -> ModelSpec:
    """The spec in a model file's metadata; raises ModelError for a file that is not ONNX, of another project, or a face finder."""
    return read_document(path, ModelSpec.from_json)


def read_faces_spec(path: Path) -> FacesSpec:
    """The spec in a face finder's metadata; raises ModelError for any other file."""
    return read_document(path, FacesSpec.from_json)


def is_finder(path: Path) -> bool:
    """Whether an .onnx file is a face finder; raises ModelError if it is not a numclip model at all."""
    return read_document(path, kind_of) == FACES


def read_document(path: Path, parse: Callable[[str], T]) -> T:
    """Parse the JSON in a file's metadata with `parse`; errors name the file. Raises ModelError."""
    data, text = _read(path), None
    for field, start, end, _ in _fields(data, path):
        if field == METADATA_FIELD:
            key, value = _entry(data[start:end], path)
            text = value if key == KEY else text
    if text is None:
        raise ModelError(
            f"{path}: expected a numclip model, but this .onnx file has no {KEY!r} metadata; export it with numclip "
            "export"
        )
    return named_in(path, parse, text)


def named_in(path: Path, parse: Callable[[str], T], text: str) -> T:
    """Parse a text with `parse`; errors name the file that it came from."""
    try:
        return parse(text)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def write_spec(path: Path, spec: Document, out: Path | None = None) -> None:
    """Replace the spec in a model file, or in a copy `out`. The file is replaced atomically; the graph is not changed."""
    data = _read(path)
    kept = [
        data[whole:end]
        for field, start, end, whole in _fields(data, path)
        if field != METADATA_FIELD or _entry(data[start:end], path)[0] != KEY
    ]
    entry = message(1, KEY.encode()) + message(2, spec.to_json().encode())
    write_whole(out or path, b"".join([*kept, message(METADATA_FIELD, entry)]))


def graph_sha256(path: Path) -> str:
    """The SHA-256, in hexadecimal, of a model file without its metadata; calibration does not change it."""
    data = _read(path)
    digest = hashlib.sha256()
    for field, _, end, whole in _fields(data, path):
        if field != METADATA_FIELD:
            digest.update(data[whole:end])
    return digest.hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model file ({error.strerror}); correct the path") from None


def _fields(data: bytes, path: Path) -> Iterator[tuple[int, int, int, int]]:
    """The top-level fields, as (field number, content start, content end, start of the whole field).

    Raises ModelError if the bytes are not an ONNX model: not a protobuf, truncated, or without a graph.
    """
    at, has_graph = 0, False
    while at < len(data):
        whole = at
        tag, at = _varint(data, at, path)
        field, wire = tag >> 3, tag & 7
        if wire == VARINT:
            start = at
            _, at = _varint(data, at, path)
        elif wire == BYTES:
            length, start = _varint(data, at, path)
            at = start + length
        elif wire in (FIXED32, FIXED64):
            start, at = at, at + (4 if wire == FIXED32 else 8)
        else:
            raise _no_onnx(path)
        if field == 0 or at > len(data):
            raise _no_onnx(path)
        has_graph |= field == GRAPH_FIELD
        yield field, start, at, whole
    if not has_graph:
        raise _no_onnx(path)


def _entry(data: bytes, path: Path) -> tuple[str, str]:
    """Key and value of one metadata entry."""
    found = {1: b"", 2: b""}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at, path)
        length, at = _varint(data, at, path)
        if tag & 7 != BYTES or at + length > len(data):
            raise _no_onnx(path)
        found[tag >> 3] = data[at : at + length]
        at += length
    try:
        return found[1].decode(), found[2].decode()
    except UnicodeDecodeError:
        raise _no_onnx(path) from None


def _varint(data: bytes, at: int, path: Path) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _no_onnx(path)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7


def message(field: int, content: bytes) -> bytes:
    """Encode one field of a protobuf message: its key, the content's length, the content."""
    return _encoded(field << 3 | BYTES) + _encoded(len(content)) + content


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _no_onnx(path: Path) -> ModelError:
    return ModelError(
        f"{path}: not a valid .onnx model (empty, truncated or another kind of file); export or copy it again"
    )
