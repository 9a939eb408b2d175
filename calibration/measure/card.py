"""Measure a model and write its model card: what it does, its accuracy by data set and group, its limits, and its licences.

Every figure is measured on the `test` splits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.contract.licences import commercial_use
from ...runtime.contract.measured import ParityRow
from ...runtime.contract.model_file import resolve
from ...runtime.contract.readings import Readings
from ...runtime.contract.spec import ModelSpec
from ...runtime.places import check_output, write_whole
from ...runtime.sessions.model import Model, load
from ..data.datasets import open_data
from ..data.protocols import split_as_trained
from .band_measures import band_lines, summarise_bands
from .measures import gate_rows, widths_at_equal_coverage
from .predictor import joined, predict_dataset
from .report import NOTE, figures_table, gate_table, sentences, stress_table, widths_sentence
from .stress import stress_rows, track_readings
from .summary import summarise

Labels = npt.NDArray[np.float64]
LOOKS = 30  # in a simulated track

USES = """\
## Intended use

Use it for: research, demonstrations, measurements of the speed and the error of small models, and counts of visitors by coarse age group if no
decision about a person depends on them.

Do not use it to decide whether a person may buy, enter, work or be believed, to identify or track a person, or to judge a child. The value is an
estimate of how old a face looks in one picture. The error differs between groups, as the tables show.
"""


@dataclass(frozen=True)
class CardOptions:
    """The model whose card is written, and the data."""

    model: str | Path
    """A shipped model's name, or a file."""
    data: Sequence[str]
    """Labelled faces, such as `utkface:PATH`; the test split of each, or all faces if it has no splits."""
    out: Path
    """The Markdown file to write."""


def write_card(options: CardOptions) -> None:
    """Measure the model and write its card. Raises ModelError, DataError, DetectorError, OutputError."""
    check_output(options.out)
    write_whole(options.out, card(load(resolve(options.model)), options.data).encode())


def card(model: Model, data: Sequence[str]) -> str:
    """The card as Markdown."""
    spec = model.spec
    sections = [_head(model), _errors(model, data), _training(spec), USES, _licences(spec)]
    return "\n".join(sections)


def _head(model: Model) -> str:
    spec = model.spec
    file = f"SHA-256 {model.origin.sha256}" if model.origin else "none"
    bins = ", ".join(
        f"{w} ({a:g}-{b:g})"
        for w, a, b in zip(spec.task.words, spec.task.bin_edges, spec.task.bin_edges[1:], strict=False)
    )
    size, origin = spec.graph, spec.provenance
    fp32 = spec.parity.get("fp32") or ParityRow(spec.task.unit, 0, "none", math.nan, math.nan, math.nan)
    text = "with" if origin.language_pretrained else "without"
    return f"""# {spec.name}

Estimates {spec.task.name} in {spec.task.unit} from a face crop of {spec.crop.side} x {spec.crop.side} px. `numclip card` wrote this page from
measurements.

| | |
|---|---|
| file | {file} |
| method | NumCLIP (arXiv 2408.03574): {spec.task.num_bins} text bins, ranking losses, refinement; text tower {text} language pre-training |
| image tower | {origin.backbone}, started from {origin.pretrained or "random weights"} |
| size | {(size.parameters or 0) / 1e6:.2f} million parameters, {(size.multiply_adds or 0) / 1e6:.0f} million multiply-adds per face |
| parity | at most {math.nan if fp32.max is None else fp32.max:.5f} {spec.task.unit} from {fp32.against or "PyTorch"} on {fp32.n} faces |
| bins | {bins} |
"""


def _errors(model: Model, data: Sequence[str]) -> str:
    """The errors on each data set, then the gates on the faces of all data sets with exact labels."""
    lines = ["## Error", "", NOTE, ""]
    once: list[tuple[Readings, Labels]] = []
    tracks: list[tuple[list[Readings], Labels]] = []
    for text in data:
        whole = split_as_trained(open_data(text), model.spec.provenance.training)
        split = whole.default_split
        title, dataset = "all faces" if split == "all" else f"{split} split", whole.select(split)
        predictions = predict_dataset(model, dataset)
        if dataset.banded:
            shares = summarise_bands(predictions)
            skipped = f", {shares.skipped} without a detected face" if shares.skipped else ""
            lines += [f"### {dataset.kind}, {title} ({shares.n} faces{skipped})", "", *band_lines(shares), ""]
            continue
        found = summarise(predictions)
        skipped = f", {found.skipped} without a detected face" if found.skipped else ""
        lines += [f"### {dataset.kind}, {title} ({found.n} faces{skipped})", ""]
        lines += [*sentences(found, model.spec.task), "", figures_table(found.named_rows(), "true value or group"), ""]
        by_value = [(band.name, band.figures) for band in found.bands_by_value]
        lines += ["By estimated value:", "", figures_table(by_value, "value"), ""]
        lines += [*stress_table(stress_rows(model, predictions.faces)), ""]
        once.append((predictions.readings, predictions.labels))
        tracks.append(track_readings(model, predictions.faces, LOOKS))
    if model.spec.calibration is not None and once:
        lines += _together(once, tracks)
    return "\n".join(lines)


def _together(once: list[tuple[Readings, Labels]], tracks: list[tuple[list[Readings], Labels]]) -> list[str]:
    """Widths, and the gates after one look and many, on the faces of all data sets."""
    readings, labels = joined([r for r, _ in once]), np.concatenate([y for _, y in once])
    looks = [joined([r[i] for r, _ in tracks]) for i in range(LOOKS)]
    rows = gate_rows([readings], labels) + gate_rows(looks, np.concatenate([y for _, y in tracks]))
    widths = widths_at_equal_coverage(readings, labels)
    said = [] if widths is None else [widths_sentence(widths), ""]
    return ["### All data sets with exact labels together", "", *said, *gate_table(rows), ""]


def _training(spec: ModelSpec) -> str:
    training: Mapping[str, Any] = spec.provenance.training
    lines = ["## Training", ""]
    for name, counts in training.get("data", {}).items():
        lines.append(
            f"- {name}, train split: {counts['n']} faces. Dropped: {counts['conflicting']} exact copies with conflicting labels, "
            f"{counts['copies']} other copies, {counts['skipped']} pictures without a detected face. The epoch was chosen on the {training.get('selected_on', 'val')} split."
        )
    if spec.calibration is not None:
        sets = ", ".join(f"{d.n} faces of {d.data} ({d.split})" for d in spec.calibration.data)
        lines.append(f"- Intervals: split conformal, on faces that were not used for training or selection: {sets}.")
    flags: Mapping[str, Any] = training.get("flags", {})
    shown = ", ".join(
        f"{k} {v}"
        for k, v in flags.items()
        if v is not None
        and k in ("epochs", "batch", "lr", "small_side_px", "small_epochs", "coverage", "augment", "seed")
    )
    if flags.get("teacher") or flags.get("teachers"):
        shown += ", labels averaged with the teachers' values"
    if mixed := flags.get("mixed"):
        shown += f"; weights: the sum of {' and '.join(f'{share:g} times those of {stage}' for stage, share in mixed.items())}"
    return "\n".join([*lines, f"- Flags: {shown}; best epoch {training.get('epoch')}.", ""])


def _licences(spec: ModelSpec) -> str:
    verdict = commercial_use(spec.licences)
    lines = ["## Licences", "", *(f"- {part}: {licence}" for part, licence in spec.licences.stated().items())]
    return "\n".join([*lines, f"- commercial use: {'yes' if verdict.allowed else 'no'} ({verdict.why})", ""])
