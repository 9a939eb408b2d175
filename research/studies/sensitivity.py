"""`sensitivity`: weights of the losses, logit scale, distance metric, adapter ratio; one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .frame import Changes, Results, Study
from .head import train_and_judge
from .plot import dots
from .rows import COARSE, CS5, MAE, NEAR
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rows(base: Settings) -> Mapping[str, Changes]:
    """Return the rows: the default, and each single change to it."""
    weights = {
        "image to text": [[w, 1.0, 1.0] for w in (0.3, 3.0)],
        "text to image": [[1.0, w, 1.0] for w in (0.3, 3.0)],
        "L1": [[1.0, 1.0, w] for w in (0.3, 3.0)],
    }
    found: dict[str, Changes] = {"default": {}}
    for at, (name, choices) in enumerate(weights.items()):
        found |= {f"weight of {name} {c[at]:g}": {"method": {"loss_weights": c}} for c in choices}
    found |= {f"logit scale fixed at {s:g}": {"scale": s} for s in (5.0, 30.0, 100.0)}
    found["distance in the task's unit"] = {"method": {"distance": "values"}}
    found |= {f"adapter ratio {r:g}": {"method": {"adapter_ratio": r}} for r in (0.0, 0.8, 1.0)}
    return found


def draw(figure: Figure, results: Results) -> None:
    dots(figure.subplots(), results.rows(), "mae", "MAE")


STUDY = Study(
    "sensitivity",
    "One change at a time to the default (all loss weights 1, logit scale learned and starting at 14.3, distance in bins, weights "
    "outside the exponent, adapter ratio 0.5).",
    rows,
    train_and_judge,
    lambda base: (MAE, CS5, COARSE, NEAR),
    draw,
)
