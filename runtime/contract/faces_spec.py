"""The metadata of a face finder's file: the second kind of model file, beside `ModelSpec`.

The file format and the metadata key are the same; `kind` is "faces". The graph takes whole pictures and returns the faces
found in them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from .fields import Fields, Json, JsonObject, to_json, to_text
from .licences import Licences
from .spec import check_kind

KIND = "faces"
SCHEMA_VERSION = 1
PADS, PADDED, FLOATS = "pads", "padded", "floats"  # tensors at the graph's start, where pictures are padded
INPUT, OUTPUTS = "pictures", ("picture", "boxes", "scores", "landmarks")
CANDIDATES = (
    "candidate_boxes",
    "candidate_scores",
    "candidate_landmarks",
)  # [N, C, 4], [N, C], [N, C, 5, 2], unsuppressed


@dataclass(frozen=True)
class FacesSource:
    """Pictures, or a teacher, that a face finder was trained with."""

    name: str
    used_for: str
    licence: str  # its name, or a note that there is none
    commercial: bool | None  # whether it allows commercial use; None: not stated

    @staticmethod
    def from_json(fields: Fields) -> FacesSource:
        """Read and check; raises ModelError naming the field."""
        commercial = fields.maybe("commercial", fields.flag)
        source = FacesSource(fields.text("name"), fields.text("used_for"), fields.text("licence"), commercial)
        fields.done()
        return source


@dataclass(frozen=True)
class FacesSpec:
    """Everything that a face finder's file says about it.

    Graph input: `pictures` uint8 [N, H, W, 3] BGR with any N, H and W. Outputs: `picture` int64 [F], the index of the picture;
    `boxes` float32 [F, 4] xyxy px, inside the picture; `scores` float32 [F], 0 to 1; `landmarks` float32 [F, 5, 2] px: right eye,
    left eye, nose tip, right and left mouth corner (the person's right). Sorted by picture, then by descending score.
    """

    name: str
    strides: tuple[int, ...]  # px per cell of each of the graph's maps
    score_threshold: float  # no face with a lower score leaves the graph
    overlap_threshold: float  # of two boxes with a larger overlap (IoU) only the better one is kept
    max_candidates: int  # per picture, before suppression
    smallest_face_px: float  # the longer side of the smallest face that it finds reliably
    sources: tuple[FacesSource, ...] = ()
    metrics: tuple[JsonObject, ...] = ()
    provenance: JsonObject = field(default_factory=lambda: {})
    licences: Licences = field(default_factory=Licences)
    precision: str = "fp32"

    def to_json(self) -> str:
        """The spec as one line of JSON with sorted keys, so that equal specs have equal bytes."""
        flat: dict[str, Json] = {**asdict(self), "licences": to_json(self.licences)}
        return to_text({"kind": KIND, "schema_version": SCHEMA_VERSION, **flat})

    @staticmethod
    def from_json(text: str) -> FacesSpec:
        """Read and check a spec; raises ModelError naming the field that is wrong, missing, unknown or newer."""
        fields = Fields.parse(text)
        check_kind(fields, KIND, SCHEMA_VERSION)
        strides = tuple(int(stride) for stride in fields.numbers("strides"))
        if not strides or any(stride < 1 for stride in strides):
            raise fields.wrong("strides", "one or more strides in px", list(strides))
        spec = FacesSpec(
            name=fields.text("name"),
            strides=strides,
            score_threshold=_share(fields, "score_threshold"),
            overlap_threshold=_share(fields, "overlap_threshold"),
            max_candidates=fields.whole("max_candidates"),
            smallest_face_px=fields.number("smallest_face_px"),
            sources=tuple(map(FacesSource.from_json, fields.objects("sources"))),
            metrics=tuple(fields.raws("metrics")),
            provenance=fields.raw("provenance"),
            licences=Licences.from_json(fields.object("licences")),
            precision=fields.text("precision"),
        )
        for name, value in (("max_candidates", spec.max_candidates), ("smallest_face_px", spec.smallest_face_px)):
            if not value > 0:
                raise fields.wrong(name, "a number above 0", value)
        fields.done()
        return spec


def _share(fields: Fields, name: str) -> float:
    value = fields.number(name)
    if not 0 < value < 1:
        raise fields.wrong(name, "a number between 0 and 1", value)
    return value
