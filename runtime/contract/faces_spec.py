"""What a face finder's file says about itself: the second kind of model file, beside `ModelSpec`.

The same file format and the same metadata key; `kind` is "faces". The graph takes whole pictures and puts out what is found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, cast

from ...errors import ModelError

KIND = "faces"
SCHEMA_VERSION = 1
INPUT, OUTPUTS = "pictures", ("picture", "boxes", "scores", "landmarks")
CANDIDATES = (
    "candidate_boxes",
    "candidate_scores",
    "candidate_landmarks",
)  # [N, C, 4], [N, C], [N, C, 5, 2], unsuppressed


@dataclass(frozen=True)
class FacesSource:
    """Pictures or a teacher that a finder learned from."""

    name: str
    used_for: str
    licence: str  # its name, or that there is none
    commercial: bool | None  # whether it allows commercial use; None: nobody says


@dataclass(frozen=True)
class FacesSpec:
    """What travels with a face finder.

    Graph: `pictures` uint8 [N, H, W, 3] BGR, N, H and W free; `picture` int64 [F] which of the N, `boxes` float32 [F, 4] xyxy
    px inside the picture, `scores` float32 [F] 0 to 1, `landmarks` float32 [F, 5, 2] px: right eye, left eye, nose tip, right
    and left mouth corner (the person's right). By picture, the best score first.
    """

    name: str
    strides: tuple[int, ...]  # px per cell of each of the graph's maps
    score_threshold: float  # no face with a lower score leaves the graph
    overlap_threshold: float  # of two boxes that overlap more (IoU) the better one stays
    max_candidates: int  # per picture, before suppression
    smallest_face_px: float  # the longer side of the smallest face that it finds reliably
    sources: tuple[FacesSource, ...] = ()
    metrics: Sequence[Mapping[str, Any]] = ()
    provenance: Mapping[str, Any] = field(default_factory=lambda: {})
    licences: Mapping[str, str] = field(default_factory=lambda: {})
    precision: str = "fp32"
    kind: str = KIND
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The spec as one line of JSON, keys sorted, so that equal specs are equal bytes."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> FacesSpec:
        """Read and check a spec; raises ModelError naming the field that is wrong, missing or newer."""
        try:
            raw: Any = json.loads(text)
        except ValueError as error:
            raise ModelError(f"the finder's spec is not JSON ({error}); export it again") from None
        read = _Fields(raw, "spec")
        if (kind := read.text("kind")) != KIND:
            raise _wrong("kind", KIND, kind)
        version = int(read.number("schema_version"))
        if version != SCHEMA_VERSION:
            hint = "update numclip" if version > SCHEMA_VERSION else "export it again"
            raise ModelError(f"spec field schema_version: expected {SCHEMA_VERSION}, got {version}; {hint}")
        read.only({f.name for f in fields(FacesSpec)})
        strides = tuple(int(_number(v, "strides[]")) for v in read.items("strides"))
        if not strides or any(s < 1 for s in strides):
            raise _wrong("strides", "one or more numbers of px", list(strides))
        return FacesSpec(
            name=read.text("name"),
            strides=strides,
            score_threshold=read.share("score_threshold"),
            overlap_threshold=read.share("overlap_threshold"),
            max_candidates=int(read.positive("max_candidates")),
            smallest_face_px=read.positive("smallest_face_px"),
            sources=tuple(_source(item) for item in read.items("sources")),
            metrics=tuple(_Fields(item, "metrics[]").raw for item in read.items("metrics")),
            provenance=read.object("provenance"),
            licences={key: str(value) for key, value in read.object("licences").items()},
            precision=read.text("precision"),
        )


def kind_of(text: str) -> str | None:
    """What kind of file a spec's JSON belongs to; None where it does not say, or is no JSON object."""
    try:
        content: Any = json.loads(text)
    except ValueError:
        return None  # whoever reads it says what is wrong
    kind = cast(dict[str, Any], content).get("kind") if isinstance(content, dict) else None
    return kind if isinstance(kind, str) else None


class _Fields:
    """One JSON object, read field by field; each error names the field."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(where, "an object", value)
        self.raw, self._where = cast(dict[str, Any], value), "" if where == "spec" else f"{where}."

    def only(self, known: set[str]) -> None:
        for name in sorted(set(self.raw) - known):
            raise ModelError(f"spec field {self._where}{name}: expected no such field; update numclip")

    def text(self, key: str) -> str:
        value = self.raw.get(key)
        if not isinstance(value, str):
            raise _wrong(self._where + key, "a text", value)
        return value

    def number(self, key: str) -> float:
        return _number(self.raw.get(key), self._where + key)

    def share(self, key: str) -> float:
        value = self.number(key)
        if not 0 < value < 1:
            raise _wrong(self._where + key, "a number between 0 and 1", value)
        return value

    def positive(self, key: str) -> float:
        value = self.number(key)
        if not value > 0:
            raise _wrong(self._where + key, "a number above 0", value)
        return value

    def items(self, key: str) -> list[Any]:
        value = self.raw.get(key)
        if not isinstance(value, list):
            raise _wrong(self._where + key, "a list", value)
        return cast(list[Any], value)

    def object(self, key: str) -> dict[str, Any]:
        return _Fields(self.raw.get(key), self._where + key).raw


def _source(item: Any) -> FacesSource:
    read = _Fields(item, "sources[]")
    commercial = read.raw.get("commercial")
    if commercial is not None and not isinstance(commercial, bool):
        raise _wrong("sources[].commercial", "true, false or null", commercial)
    return FacesSource(read.text("name"), read.text("used_for"), read.text("licence"), commercial)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(where, "a number", value)
    return float(value)


def _wrong(where: str, expected: object, got: object) -> ModelError:
    said = "nothing" if got is None else repr(got)[:60]
    return ModelError(f"spec field {where}: expected {expected}, got {said}; export it again")
