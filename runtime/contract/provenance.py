"""The origin of a model: its towers, training, checkpoint, and the commands and versions that made the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .fields import Fields, JsonObject


@dataclass(frozen=True)
class Quantization:
    """How an INT8 file was made from a float one."""

    flavour: str  # cpu or tensorrt
    ranges: str  # method that chose the ranges
    faces: int  # that the ranges were measured on
    kept_float: tuple[str, ...]  # layers
    from_graph_sha256: str
    date: str

    @staticmethod
    def from_json(fields: Fields) -> Quantization:
        """Read and check; raises ModelError naming the field."""
        text = fields.text
        made = Quantization(
            flavour=text("flavour"),
            ranges=text("ranges"),
            faces=fields.whole("faces"),
            kept_float=fields.texts("kept_float"),
            from_graph_sha256=text("from_graph_sha256"),
            date=text("date"),
        )
        fields.done()
        return made


@dataclass(frozen=True)
class Provenance:
    """The origin of a model. None or empty: not recorded."""

    backbone: str | None = None  # the image tower
    pretrained: str | None = None  # what the image tower started from
    language_pretrained: bool | None = None  # whether the text tower has language pre-training
    context: str | None = None  # the words around the bins' words
    checkpoint_sha256: str | None = None
    command: str | None = None  # that wrote the file
    method: JsonObject = field(default_factory=lambda: {})  # the method's switches, as train records them
    training: JsonObject = field(default_factory=lambda: {})  # data, flags and results, as train records them
    versions: Mapping[str, str] = field(default_factory=lambda: {})  # of the libraries that wrote the file
    kept_float32: tuple[str, ...] | None = None  # layers of an FP16 graph that stay in float32
    quantization: Quantization | None = None

    @staticmethod
    def from_json(fields: Fields) -> Provenance:
        """Read and check; raises ModelError naming the field."""
        names = ("backbone", "pretrained", "context", "checkpoint_sha256", "command")
        versions = fields.object("versions") if "versions" in fields else Fields({})
        made = fields.maybe("quantization", fields.object)
        provenance = Provenance(
            **{name: fields.maybe(name, fields.text) for name in names},
            language_pretrained=fields.maybe("language_pretrained", fields.flag),
            method=fields.maybe("method", fields.raw) or {},
            training=fields.maybe("training", fields.raw) or {},
            versions=versions.each(versions.text),
            kept_float32=fields.maybe("kept_float32", fields.texts),
            quantization=None if made is None else Quantization.from_json(made),
        )
        fields.done()
        return provenance
