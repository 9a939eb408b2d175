"""A summary of a model file in at most 30 lines."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace

from ..runtime.contract.calibration import Calibration
from ..runtime.contract.faces_spec import FacesSpec
from ..runtime.contract.licences import Licence, Licences, Verdict
from ..runtime.contract.measured import Metric
from ..runtime.contract.spec import ModelSpec
from ..runtime.info import ModelInfo

WIDTH = 110
ARITHMETIC = {"fp32": "float32", "fp16": "half precision", "int8": "INT8"}


def screen(info: ModelInfo) -> list[str]:
    """A summary of the model for people, in lines of at most WIDTH characters."""
    spec = info.spec
    rows = _finder_rows(spec) if isinstance(spec, FacesSpec) else _model_rows(spec)
    lines = [f"{spec.name}  ({info.path}, {info.file_bytes / 1e6:.1f} MB)"]
    before = ""
    for title, text in [*rows, *_licence_rows(spec.licences, info.commercial_use)]:
        head = f"{'' if title == before else title:<12} "
        lines += textwrap.wrap(
            text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
        )
        before = title
    return lines


def _model_rows(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    task, graph, origin = spec.task, spec.graph, spec.provenance
    words = zip(task.words, task.bin_edges, task.bin_edges[1:], strict=False)
    yield (
        "estimates",
        f"{task.name} in {task.unit}, {task.low:g} to {task.high:g}, from a face crop of {spec.crop.side} px",
    )
    yield "words", ", ".join(f"{word} {low:g}-{high:g}" for word, low, high in words)
    for metric in spec.metrics:
        yield "error", "mean absolute " + _metric(metric, task.unit)
    if not spec.metrics:
        yield "error", "not measured"
    yield from (("interval", text) for text in _calibration(spec.calibration, task.name))
    for name, row in spec.parity.items():
        most = "not a number" if row.max is None else f"{row.max:.2g} {row.unit}"
        mean = "" if row.mean is None else f", {row.mean:.2g} on average"
        yield "parity", f"{name}: at most {most} from {row.against or 'PyTorch'}{mean}; {row.n} faces"
    sizes = [f"{ARITHMETIC.get(graph.precision, graph.precision)} arithmetic"]
    sizes += [] if graph.parameters is None else [f"{graph.parameters / 1e6:.2f} million parameters"]
    sizes += (
        [] if graph.multiply_adds is None else [f"{graph.multiply_adds / 1e6:.0f} million multiply-adds for one face"]
    )
    yield "size", ", ".join(sizes)
    if origin.backbone is not None:
        yield "tower", f"{origin.backbone}, started from {origin.pretrained or 'random weights'}"


def _metric(metric: Metric, unit: str) -> str:
    said = f"{metric.mae:.2f} {unit}, {metric.cs5:.0%} within 5, on {metric.n} faces of {metric.data} ({metric.split})"
    ends = ["+" if band.high is None else f"-{band.high:g}" for band in metric.bands]
    bands = ", ".join(f"{band.low:g}{end}: {band.mae:.1f}" for band, end in zip(metric.bands, ends, strict=True))
    return f"{said}; by true value {bands}" if bands else said


def _calibration(calibration: Calibration | None, name: str) -> Iterator[str]:
    if calibration is None:
        yield "none: not calibrated; run numclip calibrate for intervals and gates"
        return
    sets = ", ".join(f"{used.data} ({used.split})" for used in calibration.data)
    shares = ", ".join(f"{share:.1%} at {float(level):.0%}" for level, share in calibration.coverage.items())
    yield f"contains the true {name} for {shares or 'an unmeasured share'} of faces; fitted on {calibration.n} faces of {sets}"
    if calibration.layer is not None:
        yield f"plus the site layer {calibration.layer.name}, fitted on {calibration.layer.n} faces"
    held = ", ".join(f"{at} ({table.lowest_error:.1%})" for at, table in calibration.gates.items())
    yield (
        f"gates at {held}; in brackets the lowest error rate" if held else "no gates: too few faces near any threshold"
    )


def _finder_rows(spec: FacesSpec) -> Iterator[tuple[str, str]]:
    yield "finds", f"faces with five landmarks, from {spec.smallest_face_px:g} px on, in pictures of any size"
    yield "size", f"{ARITHMETIC.get(spec.precision, spec.precision)} arithmetic"
    for source in spec.sources:
        yield "trained on", f"{source.name} ({source.used_for}): {source.licence}"


def _licence_rows(licences: Licences, verdict: Verdict) -> Iterator[tuple[str, str]]:
    for part, licence in licences.stated().items():
        others = {"data": licences.data, "backbone": licences.backbone} if part == "weights" else {}
        yield "licences", f"{part}: {_licence(licence, others)}"
    parts = " and ".join(filter(None, (", ".join(verdict.parts[:-1]), *verdict.parts[-1:])))
    yield (
        "commercial",
        f"yes: {verdict.why}" if verdict.allowed else f"no, because of: {parts}",
    )


def _licence(licence: Licence, others: Mapping[str, Licence | None]) -> str:
    """The terms in one text. It does not repeat those of other parts, nor names that only this project knows beside a sentence."""
    note = licence.note
    for name, other in others.items():
        if other is not None and other.note:
            note = note.replace(other.note, f"that of the {name}")
    local = licence.spdx is not None and "LicenseRef-" in licence.spdx
    return str(replace(licence, note=note, spdx=None if local and note else licence.spdx))
