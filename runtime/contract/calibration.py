"""A model's calibration: the table that intervals are computed from, its gates, and an optional layer for one site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TypeAlias

from .conformal_table import ConformalTable, quantiles_from_json
from .fields import Fields, Json, JsonObject
from .gate_table import GateTable

KIND = "conformal"

Gates: TypeAlias = "Mapping[str, GateTable]"  # by threshold, as "18"


@dataclass(frozen=True)
class FacesUsed:
    """The labelled faces that a calibration or a layer was fitted on."""

    data: str  # "utkface:utkface.tar"
    split: str
    n: int

    @staticmethod
    def from_json(fields: Fields) -> FacesUsed:
        """Read and check; raises ModelError naming the field."""
        used = FacesUsed(fields.text("data"), fields.text("split"), fields.whole("n"))
        fields.done()
        return used


@dataclass(frozen=True)
class Layer:
    """A correction fitted on faces of one site: an offset, quantiles and gates of its own. The difficulty stays the base's."""

    name: str
    table: ConformalTable  # the base's with the site's offset, knots, levels and quantiles
    gates: Gates
    n: int  # faces it was fitted on
    data: tuple[FacesUsed, ...]
    date: str

    @staticmethod
    def from_json(fields: Fields, base: ConformalTable) -> Layer:
        """Read and check a layer over a base table; raises ModelError naming the field."""
        knots, levels, rows = quantiles_from_json(fields)
        offset = fields.number("offset")
        layer = Layer(
            name=fields.text("name"),
            table=replace(base, offset=offset, knots=knots, levels=levels, quantiles=rows),
            gates=_read_gates(fields),
            n=fields.whole("n"),
            data=tuple(map(FacesUsed.from_json, fields.objects("data"))),
            date=fields.text("date"),
        )
        fields.done()
        layer.table.check()
        return layer

    def to_json(self) -> dict[str, Json]:
        """The fields; of the table, only the site's own values."""
        table = self.table.to_json()
        own = {name: table[name] for name in ("offset", "knots", "levels", "quantiles")}
        return {"name": self.name, **own, **_facts(self)}


@dataclass(frozen=True)
class Calibration:
    """Intervals and gates of one graph. `table` and `gates` are those in use: a site's layer overrides the base."""

    base_table: ConformalTable
    graph_sha256: str  # of the graph it was fitted for
    n: int  # faces it was fitted on
    data: tuple[FacesUsed, ...]
    date: str  # "2026-11-26"
    coverage: Mapping[str, float] = field(default_factory=lambda: {})  # by level, in cross-validation
    base_gates: Gates = field(default_factory=lambda: {})
    look_correlation: float = 1.0  # rho of the looks at one face; 1 if it was not measured
    layers: tuple[Layer, ...] = ()  # the last one is in use

    @property
    def layer(self) -> Layer | None:
        """The layer in use; None if there is none."""
        return self.layers[-1] if self.layers else None

    @property
    def table(self) -> ConformalTable:
        """The table in use."""
        return self.base_table if self.layer is None else self.layer.table

    @property
    def gates(self) -> Gates:
        """The gates in use. Under a layer these are only the layer's own: the others' error rates were not measured on that site."""
        return self.base_gates if self.layer is None else self.layer.gates

    @staticmethod
    def from_json(fields: Fields) -> Calibration:
        """Read and check; raises ModelError naming the field."""
        kind = fields.text("kind")
        if kind != KIND:
            raise fields.wrong("kind", KIND, repr(kind))
        table = ConformalTable.from_json(fields)
        calibration = Calibration(
            base_table=table,
            graph_sha256=fields.text("graph_sha256"),
            n=fields.whole("n"),
            data=tuple(map(FacesUsed.from_json, fields.objects("data"))),
            date=fields.text("date"),
            coverage=(coverage := fields.object("coverage")).each(coverage.number),
            base_gates=_read_gates(fields),
            look_correlation=_look_correlation(fields),
            layers=tuple(Layer.from_json(layer, table) for layer in fields.maybe("layers", fields.objects) or ()),
        )
        fields.done()
        return calibration

    def to_json(self) -> dict[str, Json]:
        """The fields, together with the table's fields."""
        facts: dict[str, Json] = {
            "kind": KIND,
            **self.base_table.to_json(),
            **_facts(self),
            "coverage": dict(self.coverage),
            "look_correlation": self.look_correlation,
            "graph_sha256": self.graph_sha256,
        }
        if self.layers:
            facts["layers"] = [layer.to_json() for layer in self.layers]
        return facts

    def with_layer(self, layer: Layer) -> Calibration:
        """This calibration with a site's layer on top."""
        return replace(self, layers=(*self.layers, layer))


def _facts(fitted: Calibration | Layer) -> dict[str, Json]:
    gates = fitted.gates if isinstance(fitted, Layer) else fitted.base_gates
    return {
        "n": fitted.n,
        "data": [asdict(used) for used in fitted.data],
        "date": fitted.date,
        "gates": gates_to_json(gates),
    }


def gates_to_json(gates: Gates) -> JsonObject:
    """The tables by threshold."""
    return {at: table.to_json() for at, table in gates.items()}


def _look_correlation(fields: Fields) -> float:
    """The share of the errors' variance that looks have in common; 1 if it was not measured."""
    rho = fields.maybe("look_correlation", fields.number)
    if rho is None:
        return 1.0
    if not 0 <= rho <= 1:
        raise fields.wrong("look_correlation", "a share from 0 to 1", rho)
    return rho


def _read_gates(fields: Fields) -> Gates:
    """The tables by threshold. Gates in an earlier format, whose errors were counted over people of all ages, are skipped."""
    if fields.maybe("gates", fields.raw) is None:
        return {}
    raw, gates = fields.raw("gates"), fields.object("gates")
    return {at: GateTable.from_json(gates.object(at)) for at in gates if not _of_all_ages(raw[at])}


def _of_all_ages(gate: Json) -> bool:
    """Whether a gate has the earlier format {error rate: [yes above, no below]}."""
    return isinstance(gate, dict) and all(isinstance(limits, list) and len(limits) == 2 for limits in gate.values())
