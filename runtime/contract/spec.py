"""The contract of a model file: everything a runtime needs to know about a model, as frozen records and as JSON.

A model is one self-describing ONNX file. Its metadata property `numclip` contains the JSON of a `ModelSpec`. Reading it
checks every field, and an error names the field that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ...errors import ModelError
from .calibration import Calibration
from .fields import Fields, to_json, to_text
from .licences import Licences
from .measured import Metric, ParityRow
from .provenance import Provenance
from .task import TaskSpec

SCHEMA_VERSION = 1
KINDS = {  # what a file is, and which flag takes it
    None: ("a model that reads crops", "give it to --model"),
    "faces": ("a face detector", "give it to --detector"),
}


@dataclass(frozen=True)
class BoxRule:
    """How the box of a detector without landmarks becomes a square crop."""

    scale: float  # crop side divided by the mean side of the box
    shift_x: float  # crop center minus box center, in box widths
    shift_y: float  # the same, in box heights

    @staticmethod
    def from_json(fields: Fields) -> BoxRule:
        """Read and check; raises ModelError naming the field."""
        rule = BoxRule(fields.number("scale"), fields.number("shift_x"), fields.number("shift_y"))
        fields.done()
        return rule


@dataclass(frozen=True)
class CropSpec:
    """The crop contract: how a face becomes the [S, S, 3] crop that the model takes."""

    side: int  # S, px
    landmarks: tuple[tuple[float, float], ...]  # template: five (x, y) as fractions of the side, in YuNet's order
    interpolation: str = "bilinear"
    box_rules: Mapping[str, BoxRule] = field(default_factory=lambda: {})

    @staticmethod
    def from_json(fields: Fields) -> CropSpec:
        """Read and check; raises ModelError naming the field."""
        side = fields.whole("side")
        if not 16 <= side <= 1024:
            raise fields.wrong("side", "16 to 1024 px", side)
        points = fields.rows("landmarks")
        if len(points) != 5 or any(len(p) != 2 for p in points):
            raise fields.wrong("landmarks", "five (x, y) points", [list(p) for p in points])
        interpolation = fields.text("interpolation")
        if interpolation != "bilinear":
            raise fields.wrong("interpolation", "bilinear", interpolation, "update numclip")
        rules = fields.object("box_rules")
        box_rules = {name: BoxRule.from_json(rules.object(name)) for name in rules}
        fields.done()
        return CropSpec(side, tuple((p[0], p[1]) for p in points), interpolation, box_rules)


@dataclass(frozen=True)
class GraphSpec:
    """The graph: its tensor names, sizes and precision."""

    embedding_dim: int  # D
    precision: str = "fp32"  # of the arithmetic: fp32, fp16 or int8
    storage: str = "fp32"  # of the weights, in a file that computes in float32
    flavour: str | None = None  # the runtime that an INT8 file was made for: cpu or tensorrt
    parameters: int | None = None
    multiply_adds: int | None = None  # for one face
    input: str = "crops"  # uint8 [N, S, S, 3] RGB
    value: str = "value"  # float32 [N]
    probabilities: str = "probabilities"  # float32 [N, K]
    embedding: str = "embedding"  # float32 [N, D]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The output names, in the order value, probabilities, embedding; a graph without an embedding has only two."""
        return (self.value, self.probabilities, self.embedding)[: 3 if self.embedding_dim else 2]

    @staticmethod
    def from_json(fields: Fields) -> GraphSpec:
        """Read and check; raises ModelError naming the field."""
        graph = GraphSpec(
            embedding_dim=fields.whole("embedding_dim"),
            precision=fields.maybe("precision", fields.text) or "fp32",
            storage=fields.maybe("storage", fields.text) or "fp32",
            flavour=fields.maybe("flavour", fields.text),
            parameters=fields.maybe("parameters", fields.whole),
            multiply_adds=fields.maybe("multiply_adds", fields.whole),
            **{name: fields.text(name) for name in ("input", "value", "probabilities", "embedding")},
        )
        fields.done()
        return graph


@dataclass(frozen=True)
class ModelSpec:
    """Everything that a model file says about its model: task, crop, graph, calibration, measurements, origin and licences."""

    name: str
    task: TaskSpec
    crop: CropSpec
    graph: GraphSpec
    calibration: Calibration | None = None
    parity: Mapping[str, ParityRow] = field(default_factory=lambda: {})  # by precision, or "engine"
    metrics: tuple[Metric, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)
    licences: Licences = field(default_factory=Licences)

    def to_json(self) -> str:
        """The spec as one line of JSON with sorted keys, so that equal specs have equal bytes."""
        return to_text({"schema_version": SCHEMA_VERSION, "calibration": None, **to_json(self)})

    @staticmethod
    def from_json(text: str) -> ModelSpec:
        """Read and check a spec; raises ModelError naming the field that is wrong, missing, unknown or newer."""
        fields = Fields.parse(text)
        check_kind(fields, None)
        parity = fields.object("parity")
        raw = fields.maybe("calibration", lambda name: fields.object(name, "calibrate again"))
        graph = GraphSpec.from_json(fields.object("graph"))
        calibration = None if raw is None else Calibration.from_json(raw)
        if calibration is not None and len(calibration.table.direction) not in (0, graph.embedding_dim):
            raise ModelError(
                f"spec field calibration.direction: expected {graph.embedding_dim} numbers, the size of the graph's embedding, "
                f"got {len(calibration.table.direction)}; calibrate again"
            )
        spec = ModelSpec(
            name=fields.text("name"),
            task=TaskSpec.from_json(fields.object("task")),
            crop=CropSpec.from_json(fields.object("crop")),
            graph=graph,
            calibration=calibration,
            parity={key: ParityRow.from_json(parity.object(key)) for key in parity},
            metrics=tuple(map(Metric.from_json, fields.objects("metrics"))),
            provenance=Provenance.from_json(fields.object("provenance")),
            licences=Licences.from_json(fields.object("licences")),
        )
        fields.done()
        return spec

    def with_calibration(self, calibration: Calibration | None) -> ModelSpec:
        """The same spec with another calibration (or none)."""
        return replace(self, calibration=calibration)


def kind_of(text: str) -> str | None:
    """The kind of file that a spec's JSON describes; None: a model that reads crops."""
    fields = Fields.parse(text)
    return fields.maybe("kind", fields.text)


def check_kind(fields: Fields, kind: str | None, version: int = SCHEMA_VERSION) -> None:
    """Raise ModelError unless the document has this kind (None: a model that reads crops) and schema version."""
    said = fields.maybe("kind", fields.text)
    if said != kind:
        (expected, _), (got, advice) = KINDS[kind], KINDS.get(said, (f"{said!r}", "update numclip"))
        raise ModelError(f"spec field kind: expected {expected}, got {got}; {advice}")
    found = fields.whole("schema_version")
    if found != version:
        hint = "update numclip" if found > version else "export the model again"
        raise ModelError(f"spec field schema_version: expected {version}, got {found}; {hint}")
