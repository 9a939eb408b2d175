"""`few-shot`: one to sixteen training pictures per label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .frame import Changes, Results, Study
from .head import train_and_judge
from .plot import lines
from .rows import COARSE, CS5, L1_ALONE, MAE, NUMCLIP, ORDINALCLIP, TRAIN_N
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOTS = (1, 2, 4, 8, 16)
WAYS = {"NumCLIP": NUMCLIP, "L1 alone": L1_ALONE, "OrdinalCLIP": ORDINALCLIP}
SHOTS_OF = {"NumCLIP": SHOTS, "L1 alone": SHOTS, "OrdinalCLIP": (1, 4, 16)}  # fewer runs, because 101 ranks are slow


def rows(base: Settings) -> Mapping[str, Changes]:
    return {f"{k} per label, {way}": {**WAYS[way], "shots": k} for way, shots in SHOTS_OF.items() for k in shots}


def draw(figure: Figure, results: Results) -> None:
    axes, found = figure.subplots(), results.rows()
    lines(
        axes,
        {way: [(float(k), found.get(f"{k} per label, {way}", [])) for k in shots] for way, shots in SHOTS_OF.items()},
        "mae",
        ("training pictures per label", "MAE"),
    )
    axes.set_xscale("log", base=2)


STUDY = Study(
    "few-shot",
    "Few training pictures per label (per year, not per word). The seed determines the pictures and the initial weights. Every "
    "training has the same number of steps, whatever the number of pictures.",
    rows,
    train_and_judge,
    lambda base: (MAE, CS5, COARSE, TRAIN_N),
    draw,
)
