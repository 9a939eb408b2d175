"""The model file on disk: find it, read and rewrite the spec in its metadata, and hash its graph, without onnx.

An .onnx file is one protobuf message; `metadata_props` are its fields number 14, each a (key, value) message. Walking
the top-level fields is enough to read them, to replace one, and to leave every other byte as it is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from ...errors import ModelError, did_you_mean
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
    """The names of the models inside this package that read faces; the finder is `FINDER`."""
    return sorted(p.stem for p in MODELS.glob("*.onnx") if p.stem != FINDER)


def resolve(name_or_path: str | os.PathLike[str], precision: str | None = None) -> Path:
    """The file of a model: a path as it is, a bare name in runtime/models/, hf://owner/name from the hub.

    precision: fp32, fp16 or int8, the form beside that file which computes so; None: that file. Raises ModelError saying what
    there is.
    """
    text = os.fspath(name_or_path)
    if precision is not None and precision not in PRECISIONS:
        raise ModelError(f"expected precision {', '.join(PRECISIONS)}, got {precision!r}")
    path = download(text, precision) if text.startswith(SCHEME) else _local(text)
    return path if precision is None else _with_precision(path, precision)


def _local(text: str) -> Path:
    path = Path(text).expanduser()
    if path.suffix in (".onnx", ".engine") or path.name != text:
        if not path.is_file():
            raise ModelError(f"model {text}: expected a file, found none; correct the path")
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
    """The file beside a model's that computes in this precision: NAME.onnx for fp32, NAME.int8.onnx for int8.

    Raises ModelError where there is none, or where it computes in another.
    """
    if path.suffix == ".engine":
        raise ModelError(f"{path}: an engine has one precision; leave the precision out, or give the .onnx")
    if read_spec(path).graph.precision == precision:
        return path
    stem = path.stem
    for other in PRECISIONS:
        stem = stem.removesuffix(f".{other}")
    found = path.with_name(f"{stem}.onnx" if precision == "fp32" else f"{stem}.{precision}.onnx")
    if not found.is_file():
        maker = {"int8": "numclip quantize", "fp16": "numclip export --precision fp16"}.get(precision, "numclip export")
        raise ModelError(
            f"{path}: expected its {precision} form {found.name} beside it, found none; make it with {maker}"
        )
    if (got := read_spec(found).graph.precision) != precision:
        raise ModelError(f"{found}: expected a file that computes in {precision}, this one computes in {got}")
    return found


class Document(Protocol):
    """What a file says about itself: a `ModelSpec`, or the spec of another kind."""

    def to_json(self) -> str:
        """As one line of JSON."""
        ...


def read_spec(path: Path) -> ModelSpec:
    """The spec in a model file's metadata; raises ModelError for a file that is no ONNX, another project's, or a finder's."""
    return read_document(path, ModelSpec.from_json)


def read_faces_spec(path: Path) -> FacesSpec:
    """The spec in a face finder's metadata; raises ModelError for any other file."""
    return read_document(path, FacesSpec.from_json)


def is_finder(path: Path) -> bool:
    """Whether an .onnx says that it finds faces; raises ModelError for a file that is no numclip model at all."""
    return read_document(path, kind_of) == FACES


def read_document(path: Path, parse: Callable[[str], T]) -> T:
    """What `parse` makes of the JSON in a file's metadata; its errors name the file. Raises ModelError."""
    data, text = _read(path), None
    for field, start, end, _ in _fields(data, path):
        if field == METADATA_FIELD:
            key, value = _entry(data[start:end], path)
            text = value if key == KEY else text
    if text is None:
        raise ModelError(
            f"{path}: expected a numclip model, this .onnx has no {KEY!r} metadata; export it with numclip"
        )
    return named_in(path, parse, text)


def named_in(path: Path, parse: Callable[[str], T], text: str) -> T:
    """What `parse` makes of a text; its errors name the file that it is from."""
    try:
        return parse(text)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def write_spec(path: Path, spec: Document, out: Path | None = None) -> None:
    """Replace the spec in a model file (or in a copy `out`), under a temporary name first; the graph stays as it is."""
    data = _read(path)
    kept = [
        data[whole:end]
        for field, start, end, whole in _fields(data, path)
        if field != METADATA_FIELD or _entry(data[start:end], path)[0] != KEY
    ]
    entry = message(1, KEY.encode()) + message(2, spec.to_json().encode())
    write_whole(out or path, b"".join([*kept, message(METADATA_FIELD, entry)]))


def graph_sha256(path: Path) -> str:
    """Hex SHA-256 of a model file without its metadata: calibrating does not change it."""
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
        raise ModelError(f"{path}: expected a model file ({error.strerror}); correct the path") from None


def _fields(data: bytes, path: Path) -> Iterator[tuple[int, int, int, int]]:
    """(field number, content start, content end, start of the whole field) of each top-level field.

    Raises ModelError where the bytes are no ONNX model: not a protobuf, cut short, or without a graph.
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
    """One field of a protobuf message: its key, the content's length, the content."""
    return _encoded(field << 3 | BYTES) + _encoded(len(content)) + content


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _no_onnx(path: Path) -> ModelError:
    return ModelError(f"{path}: expected an .onnx model, its bytes are none or cut short; export or copy it again")
