"""`shift`: pictures of the most frequent labels are removed from the training split; the validation split is unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .frame import Changes, Results, Study
from .head import train_and_judge
from .plot import lines
from .rows import COARSE, CS5, L1_ALONE, MAE, NUMCLIP, TRAIN_N
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOP = (10, 20, 30, 40)
WAYS = {"NumCLIP": NUMCLIP, "L1 alone": L1_ALONE}
WAYS_OF = {
    0.2: {"NumCLIP": TOP},
    0.1: {"NumCLIP": TOP, "L1 alone": (40,)},
}  # share that is kept: method: numbers of labels that are cut


def rows(base: Settings) -> Mapping[str, Changes]:
    """Return the rows: nothing cut, then every cut."""
    found: dict[str, Changes] = {f"nothing cut, {way}": dict(changes) for way, changes in WAYS.items()}
    for share, ways in WAYS_OF.items():
        for way, tops in ways.items():
            found |= {_row(top, share, way): {**WAYS[way], "shift": [top, share]} for top in tops}
    return found


def draw(figure: Figure, results: Results) -> None:
    found, every = results.rows(), figure.subplots(1, len(WAYS_OF), sharey=True)
    for axes, (share, ways) in zip(every, WAYS_OF.items(), strict=True):
        series = {
            way: [(0.0, found.get(f"nothing cut, {way}", []))]
            + [(float(top), found.get(_row(top, share, way), [])) for top in tops]
            for way, tops in ways.items()
        }
        lines(axes, series, "mae", (f"most frequent labels cut to {100 * share:.0f} %", "MAE"))


def _row(top: int, share: float, way: str) -> str:
    return f"{top} labels to {100 * share:.0f} %, {way}"


STUDY = Study(
    "shift",
    "A training split with another distribution of labels: of each of the most frequent labels only a share of the pictures is "
    "kept. The validation split is unchanged. The seed determines which pictures are kept.",
    rows,
    train_and_judge,
    lambda base: (MAE, CS5, COARSE, TRAIN_N),
    draw,
)
