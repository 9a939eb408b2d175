"""`loss`: plain contrastive or ranking, weights inside or outside the exponent, one direction or both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .frame import Changes, Results, Study
from .head import train_and_judge
from .plot import dots
from .rows import COARSE, CS5, L1_ALONE, MAE, NEAR
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHTINGS = {"plain": None, "inside": "inside", "outside": "outside"}
DIRECTIONS = {"image to text": [1.0, 0.0, 1.0], "text to image": [0.0, 1.0, 1.0], "both": [1.0, 1.0, 1.0]}


def rows(base: Settings) -> Mapping[str, Changes]:
    """Return the rows: each weighting in each direction, always with L1, and L1 alone."""
    found: dict[str, Changes] = {
        f"{name}, {direction}": {"method": {"weighting": weighting, "loss_weights": weights}}
        for name, weighting in WEIGHTINGS.items()
        for direction, weights in DIRECTIONS.items()
    }
    return found | {"no contrastive loss": dict(L1_ALONE)}


def draw(figure: Figure, results: Results) -> None:
    left, right = figure.subplots(1, 2)
    dots(left, results.rows(), "mae", "MAE")
    dots(right, results.rows(), "coarse", "share of right words")
    right.set_yticklabels([])


STUDY = Study(
    "loss",
    "The contrastive losses: plain (cross-entropy and KL) against the ranking losses, whose weights grow with the distance "
    "between bins. The weights are inside the exponent, as in the released code, or outside, as in the paper. The direction is "
    "image to text, text to image, or both. Every row but the last adds L1 with weight 1; the last row is L1 alone.",
    rows,
    train_and_judge,
    lambda base: (MAE, CS5, COARSE, NEAR),
    draw,
)
