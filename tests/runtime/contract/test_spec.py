"""The records of a model file survive JSON, errors name the wrong field, and a site's layer overrides the base."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from numclip.errors import ModelError
from numclip.runtime.contract.calibration import Calibration, FacesUsed, Layer
from numclip.runtime.contract.conformal_table import ConformalTable
from numclip.runtime.contract.gate_table import GateTable, Step, YesStep
from numclip.runtime.contract.licences import Licence, Licences
from numclip.runtime.contract.measured import Band, Metric, ParityRow
from numclip.runtime.contract.model_file import MODELS, read_document, read_spec
from numclip.runtime.contract.provenance import Provenance, Quantization
from numclip.runtime.contract.spec import BoxRule, CropSpec, GraphSpec, ModelSpec
from numclip.runtime.contract.task import TaskSpec

SHIPPED = sorted(MODELS.glob("age-*.onnx"))

texts = st.text(max_size=8)
names = st.text(min_size=1, max_size=8)
numbers = st.floats(-1e6, 1e6)
counts = st.integers(0, 10**9)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


def rising(n: int, low: float, high: float) -> st.SearchStrategy[tuple[float, ...]]:
    return st.lists(st.floats(low, high), min_size=n, max_size=n, unique=True).map(lambda v: tuple(sorted(v)))


@st.composite
def tasks(draw: st.DrawFn) -> TaskSpec:
    bins = draw(st.integers(2, 6))
    edges = draw(rising(bins + 1, -1e4, 1e4))
    words = tuple(draw(st.lists(texts, min_size=bins, max_size=bins)))
    return TaskSpec(draw(texts), draw(texts), edges[0], edges[-1], edges, words)


@st.composite
def tables(draw: st.DrawFn) -> ConformalTable:
    knots, levels, wide = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    rows = [sorted(draw(st.lists(numbers, min_size=levels, max_size=levels))) for _ in range(knots)]
    return ConformalTable(
        np.array(draw(rising(knots, 0, 120))),
        np.array(draw(rising(levels, 0.001, 0.999))),
        np.array(rows),
        base=draw(st.floats(1e-3, 10)),
        slope=draw(st.floats(0, 10)),
        temperature=draw(st.floats(0.1, 10)),
        offset=draw(numbers),
        sharpness=np.array(draw(rising(wide, -10, 0))),
        widening=np.array(sorted(draw(st.lists(st.floats(1, 5), min_size=wide, max_size=wide)), reverse=True)),
        direction=np.array(draw(st.lists(numbers, max_size=3))),
        unfamiliarity=np.array(draw(rising(wide, -2, 2))),
        unfamiliar_widening=np.array(sorted(draw(st.lists(st.floats(1, 5), min_size=wide, max_size=wide)))),
    )


@st.composite
def gate_tables(draw: st.DrawFn) -> GateTable:
    def steps(sign: int) -> list[tuple[float, float]]:
        many = draw(st.integers(1, 4))
        limits = sorted(draw(st.lists(numbers, min_size=many, max_size=many)), reverse=sign < 0)
        return list(zip(draw(rising(many, 0, 1)), limits))

    yes = tuple(YesStep(rate, limit, draw(st.floats(0, 1))) for rate, limit in steps(-1))
    no, challenge = (tuple(Step(*step) for step in steps(sign)) for sign in (1, -1))
    return GateTable(draw(counts), draw(counts), draw(numbers), yes, no, challenge)


gates = st.dictionaries(names, gate_tables(), max_size=2)
used = st.lists(st.builds(FacesUsed, texts, texts, counts), max_size=2).map(tuple)


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    base = draw(tables())
    layers: list[Layer] = []
    for _ in range(draw(st.integers(0, 2))):
        own = draw(tables())
        table = replace(base, offset=own.offset, knots=own.knots, levels=own.levels, quantiles=own.quantiles)
        layers.append(Layer(draw(texts), table, draw(gates), draw(counts), draw(used), draw(texts)))
    return Calibration(
        base,
        draw(texts),
        draw(counts),
        draw(used),
        draw(texts),
        draw(st.dictionaries(names, numbers, max_size=2)),
        draw(gates),
        draw(st.floats(0, 1)),
        tuple(layers),
    )


maybe = st.none()
boxes = st.builds(BoxRule, numbers, numbers, numbers)
crops = st.builds(
    CropSpec,
    st.integers(16, 1024),
    st.lists(st.tuples(numbers, numbers), min_size=5, max_size=5).map(tuple),
    st.just("bilinear"),
    st.dictionaries(names, boxes, max_size=2),
)
graphs = st.builds(
    GraphSpec, counts, names, names, maybe | names, maybe | counts, maybe | counts, names, names, names, names
)
metrics = st.builds(
    Metric,
    texts,
    texts,
    counts,
    counts,
    numbers,
    numbers,
    numbers,
    st.lists(st.builds(Band, numbers, maybe | numbers, counts, numbers, numbers), max_size=2).map(tuple),
)
parities = st.builds(
    ParityRow, texts, counts, texts, *[maybe | numbers] * 3, maybe | texts, *[maybe | numbers] * 3, maybe | counts
)
provenances = st.builds(
    Provenance,
    *[maybe | texts] * 2,
    maybe | st.booleans(),
    *[maybe | texts] * 3,
    st.dictionaries(names, json_values, max_size=2),
    st.dictionaries(names, json_values, max_size=2),
    st.dictionaries(names, texts, max_size=2),
    maybe | st.lists(texts, max_size=2).map(tuple),
    maybe | st.builds(Quantization, texts, texts, counts, st.lists(texts, max_size=2).map(tuple), texts, texts),
)
parts = maybe | texts.map(Licence.from_text) | st.builds(Licence, st.sampled_from(["MIT", "LicenseRef-x"]), texts)


def _of_one_size(spec: ModelSpec) -> ModelSpec:
    """Give the graph the embedding size that the calibration's direction has."""
    if spec.calibration is None or not len(spec.calibration.table.direction):
        return spec
    return replace(spec, graph=replace(spec.graph, embedding_dim=len(spec.calibration.table.direction)))


specs = st.builds(
    ModelSpec,
    texts,
    tasks(),
    crops,
    graphs,
    maybe | calibrations(),
    st.dictionaries(names, parities, max_size=2),
    st.lists(metrics, max_size=2).map(tuple),
    provenances,
    st.builds(Licences, parts, parts, parts, parts),
).map(_of_one_size)


@given(specs)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_spec_survives_json(spec: ModelSpec) -> None:
    """Any records survive conversion to JSON and back, and give the same bytes again."""
    text = spec.to_json()
    back = ModelSpec.from_json(text)
    assert back == spec and back.to_json() == text


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_file_is_written_as_it_was(path: Path) -> None:
    """Reading and writing a shipped file's spec gives the same bytes."""
    assert read_spec(path).to_json() == read_document(path, str)


def _places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Yield the path of every field of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in inner for place in _places(part, (*path, key)))]


FREE = {"method", "training"}  # parts of the provenance that are not parsed
RAW = json.loads(read_document(SHIPPED[0], str))
PLACES = [p for p in _places(RAW) if p and not FREE & set(p)]


@given(st.sampled_from(PLACES), st.sampled_from([{"x": [None]}, [[]], True]))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_value_of_another_kind_is_refused_by_name(place: tuple[str | int, ...], value: object) -> None:
    """Any field of the shipped spec with a value of a wrong type is an error in one sentence that names the field."""
    raw = json.loads(json.dumps(RAW))
    inner = raw
    for key in place[:-1]:
        inner = inner[key]
    if isinstance(inner[place[-1]], bool):
        value = {"x": [None]}
    inner[place[-1]] = value
    with pytest.raises(ModelError) as caught:
        ModelSpec.from_json(json.dumps(raw))
    named = [key for key in place if isinstance(key, str)]
    assert f"spec field {named[0]}" in str(caught.value) and "\n" not in str(caught.value)


@given(st.sampled_from([p for p in PLACES if isinstance(p[-1], str)]))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_unknown_field_is_refused_by_name(place: tuple[str | int, ...]) -> None:
    """An unknown field in any object with fixed fields is an error that names it."""
    raw = json.loads(json.dumps(RAW))
    inner = raw
    for key in place[:-1]:
        inner = inner[key]
    keyed = {"gates", "coverage", "versions", "parity", "box_rules"}  # objects with data as keys
    if keyed & set(place[:-1]):
        return
    inner["surprise"] = 1
    with pytest.raises(ModelError, match=r"spec field .*surprise: unknown field; update numclip"):
        ModelSpec.from_json(json.dumps(raw))


def test_a_direction_has_the_size_of_the_embedding() -> None:
    """A calibration whose direction has another size than the graph's embedding is an error that names both sizes."""
    spec = read_spec(SHIPPED[0])
    assert spec.calibration is not None and spec.graph.embedding_dim > 2
    table = replace(spec.calibration.base_table, direction=np.ones(2))
    short = spec.with_calibration(replace(spec.calibration, base_table=table))
    with pytest.raises(ModelError, match=f"calibration.direction: expected {spec.graph.embedding_dim} numbers.*got 2"):
        ModelSpec.from_json(short.to_json())


def test_a_layer_lies_on_top() -> None:
    """A layer's offset, quantiles and gates replace the base's, but the base's difficulty stays; without the layer the base returns."""
    calibration = read_spec(SHIPPED[0]).calibration
    assert calibration is not None and calibration.layer is None
    base = calibration.table
    own = replace(base, offset=4.0, quantiles=base.quantiles * 2)
    site = calibration.with_layer(Layer("door", own, {"18": TABLE}, 60, (), "2026-11-27"))
    read = Calibration.from_json(_fields(site.to_json()))
    assert read == site and (read.table.offset, base.offset) == (4.0, 0.0)
    assert (read.table.base, read.table.slope) == (base.base, base.slope)
    assert read.table.widening.tolist() == base.widening.tolist()
    assert read.gates == {"18": TABLE} and len(calibration.gates) == 5
    assert replace(read, layers=()) == calibration


TABLE = GateTable(20, 30, 0.5, (YesStep(0.14, 2.0, 0.4),), (Step(0.1, -1.0),), (Step(0.14, 24.0),))


def test_gates_of_an_earlier_kind_are_left_out() -> None:
    """A file with gates of the earlier kind (fitted over all ages) opens without them and keeps the rest of its calibration."""
    calibration = read_spec(SHIPPED[0]).calibration
    assert calibration is not None
    raw = json.loads(json.dumps(calibration.to_json())) | {"gates": {"18": {"0.01": [4.2, -0.4]}}}
    assert Calibration.from_json(_fields(raw)) == replace(calibration, base_gates={})


@pytest.mark.parametrize(
    ("name", "steps"),
    [("yes", [[0.1, 2, 0.5], [0.1, 1, 0.4]]), ("yes", [[0.1, 1, 0.5], [0.2, 2, 0.4]]), ("no", [[0.1, 1], [0.2, 0]])],
)
def test_a_gate_table_that_turns_back_is_refused(name: str, steps: list[list[float]]) -> None:
    """From step to step rates must rise and limits must move to the center; anything else is an error that names the field."""
    with pytest.raises(ModelError, match=f"spec field {name}: expected rates that rise"):
        GateTable.from_json(_fields(TABLE.to_json() | {name: steps}))


def _fields(raw: Any) -> Any:
    from numclip.runtime.contract.fields import Fields

    return Fields(json.loads(json.dumps(raw)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("levels", []),
        ("widening", lambda widening: widening[::-1]),
        ("unfamiliar_widening", lambda widening: widening[::-1]),
        ("look_correlation", -0.1),
        ("look_correlation", 1.1),
    ],
)
def test_a_calibration_that_no_fit_makes_is_refused_by_name(field: str, value: Any) -> None:
    """No levels, a widening that grows with detail or falls with unfamiliarity, and a correlation outside 0..1 are errors that name
    the field."""
    raw = json.loads(json.dumps(RAW))
    calibration = raw["calibration"]
    before = calibration[field]
    calibration[field] = value(before) if callable(value) else value
    if field == "levels":
        calibration["quantiles"] = [[] for _ in calibration["quantiles"]]
    assert calibration[field] != before
    with pytest.raises(ModelError, match=rf"spec field calibration\.{field}: expected"):
        ModelSpec.from_json(json.dumps(raw))


def test_a_face_finder_is_no_age_model() -> None:
    """A face finder's spec is an error that says so, before other fields are read."""
    with pytest.raises(
        ModelError, match="kind: expected a model that reads crops, got a face detector; give it to --detector"
    ):
        ModelSpec.from_json('{"kind": "faces", "schema_version": 1}')
