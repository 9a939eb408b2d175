"""`extrapolation`: labels outside the range of the training pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ...train.tasks_file import load_task
from .bench import Bench
from .frame import Changes, Column, Measured, Results, Run, Study
from .head import Recipe, answers, train
from .plot import dots
from .rows import L1_ALONE, NUMCLIP, ORDINALCLIP
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOW, HIGH = 0.1, 0.6  # shares of the scale; for ages, below 10 and from 60
WAYS = {"NumCLIP": NUMCLIP, "OrdinalCLIP": ORDINALCLIP, "L1 alone": L1_ALONE}


def limits(task: str) -> tuple[float, float]:
    """Return the end of the low part of the scale and the start of the high part."""
    edges = load_task(task).spec.bin_edges
    return edges[0] + LOW * (edges[-1] - edges[0]), edges[0] + HIGH * (edges[-1] - edges[0])


def rows(base: Settings) -> Mapping[str, Changes]:
    low, high = limits(base.task)
    cuts = {f"without labels from {high:g}": [None, high], f"without labels below {low:g}": [low, None]}
    whole = {f"all labels, {way}": dict(WAYS[way]) for way in ("NumCLIP", "L1 alone")}
    return whole | {f"{name}, {way}": {**WAYS[way], "keep": keep} for name, keep in cuts.items() for way in WAYS}


def measure(bench: Bench, run: Run) -> Measured:
    """Measure errors and biases by part of the scale."""
    network, n = train(bench, Recipe.of(run), run.seed)
    pictures = bench.pictures(0, "val")
    error = answers(network, pictures.inputs).value.astype(np.float64) - pictures.labels
    low, high = limits(bench.settings.task)
    labels = pictures.labels
    parts = {"low": labels < low, "middle": (labels >= low) & (labels < high), "high": labels >= high}
    figures: dict[str, float | None] = {"train_n": n}
    for name, chosen in parts.items():
        some = bool(chosen.any())
        figures[f"mae_{name}"] = round(float(np.abs(error[chosen]).mean()), 4) if some else None
        figures[f"bias_{name}"] = round(float(error[chosen].mean()), 4) if some else None
    return Measured(figures, val_n={name: int(chosen.sum()) for name, chosen in parts.items()})


def columns(base: Settings) -> tuple[Column, ...]:
    low, high = limits(base.task)
    where = {"low": f"below {low:g}", "middle": "between", "high": f"from {high:g}"}
    return tuple(
        Column(f"{key}_{part}", f"{title} {text}")
        for key, title in (("mae", "MAE"), ("bias", "bias"))
        for part, text in where.items()
    )


def draw(figure: Figure, results: Results) -> None:
    left, right = figure.subplots(1, 2)
    low, high = limits(results.base.task)
    dots(left, results.rows(), "mae_low", f"MAE below {low:g}")
    dots(right, results.rows(), "mae_high", f"MAE from {high:g}")
    right.set_yticklabels([])


STUDY = Study(
    "extrapolation",
    "Labels outside the training range: one end of the scale is removed from the training split; the validation split is "
    "unchanged. The bins still cover the whole scale, so NumCLIP has words at that end without any positive training picture.",
    rows,
    measure,
    columns,
    draw,
)
