"""`shift`: the most frequent labels are cut from the training split, the validation split stays."""

from __future__ import annotations

from typing import Any

from .study_bench import Settings
from .study_frame import Results, Study
from .study_head import train_and_judge
from .study_plot import lines
from .study_rows import COARSE, CS5, L1_ALONE, MAE, NUMCLIP, TRAIN_N

TOP = (10, 20, 30, 40)
WAYS = {"NumCLIP": NUMCLIP, "L1 alone": L1_ALONE}
SHARES = {0.2: ("NumCLIP",), 0.1: ("NumCLIP", "L1 alone")}


def rows(base: Settings) -> dict[str, dict[str, Any]]:
    """Nothing cut; then every cut."""
    found = {f"nothing cut, {way}": dict(changes) for way, changes in WAYS.items()}
    for share, ways in SHARES.items():
        for top in TOP:
            name = f"{top} labels to {100 * share:.0f} %"
            found |= {f"{name}, {way}": {**WAYS[way], "shift": [top, share]} for way in ways}
    return found


def draw(figure: Any, results: Results) -> None:
    found, every = results.rows(), figure.subplots(1, len(SHARES), sharey=True)
    for axes, (share, ways) in zip(every, SHARES.items(), strict=True):
        series = {
            way: [(0.0, found.get(f"nothing cut, {way}", []))]
            + [(float(top), found.get(f"{top} labels to {100 * share:.0f} %, {way}", [])) for top in TOP]
            for way in ways
        }
        lines(axes, series, "mae", (f"most frequent labels cut to {100 * share:.0f} %", "MAE"))


STUDY = Study(
    "shift",
    "A training split whose labels are distributed otherwise: of each of the most frequent labels only a part stays, the "
    "validation split is untouched. A seed draws which pictures stay.",
    rows,
    train_and_judge,
    lambda base: (MAE, CS5, COARSE, TRAIN_N),
    draw,
)
