"""`coarse`: how good are the words alone, and what does the refinement add?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ...train.records import Json
from ...train.validation import bins_of
from .bench import Bench
from .frame import ONCE, Changes, Column, Measured, Results, Run, Study
from .head import train_and_judge
from .plot import dots
from .rows import COARSE, CS5, L1_ALONE, MAE, NEAR, WORDS_ALONE
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALWAYS_RIGHT = "always the right word (nothing trained)"


def rows(base: Settings) -> Mapping[str, Changes]:
    unrefined: dict[str, Json] = {"refinement_hidden": 0, "refinement_embedding": False}
    return {
        "words and refinement (NumCLIP)": {},
        "words and refinement from the logits only": {"method": {"refinement_embedding": False}},
        "words and L1, expectation over bin centers": {"method": unrefined},
        "words alone, ranking losses": dict(WORDS_ALONE),
        "words alone, cross-entropy": {"method": {**unrefined, "weighting": None, "loss_weights": [1.0, 0.0, 0.0]}},
        "the number alone (L1)": dict(L1_ALONE),
        "as released": {"method": {"as_released": True}},
        ALWAYS_RIGHT: {ONCE: "always right"},
    }


def measure(bench: Bench, run: Run) -> Measured:
    """Train and measure; or compute the error of always choosing the center of the right word."""
    if ONCE not in run.changes:
        return train_and_judge(bench, run)
    labels, task = bench.pictures(0, "val").labels, bench.task.spec
    error = np.array(task.bin_centers)[bins_of(labels, task)] - labels
    mae, cs5 = (round(float(x), 4) for x in (np.abs(error).mean(), (np.abs(error) <= 5).mean()))
    return Measured({"mae": mae, "mae_likeliest": mae, "cs5": cs5, "coarse": 1.0, "near": 1.0})


def draw(figure: Figure, results: Results) -> None:
    dots(figure.subplots(), results.rows(), "mae", "MAE")


STUDY = Study(
    "coarse",
    "Coarse classification alone. How good is the value that the words give without refinement? How much of the error is due to "
    "the width of the bins? (The last row always chooses the center of the right word.) What do the L1 loss and the refinement "
    "add? `MAE of the likeliest` is the error of choosing the center of the most likely word.",
    rows,
    measure,
    lambda base: (MAE, Column("mae_likeliest", "MAE of the likeliest"), CS5, COARSE, NEAR),
    draw,
)
