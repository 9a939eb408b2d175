"""`granularity`: how many bins, from two to one per unit?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .frame import Changes, Column, Results, Study
from .head import train_and_judge
from .plot import lines
from .rows import CS5, MAE, WORDS_ALONE
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REFINED, ALONE = "refined", "words alone"
COUNTS = {REFINED: (2, 3, 5, 11, 25), ALONE: (2, 5, 25)}


def rows(base: Settings) -> Mapping[str, Changes]:
    """Return the rows: equal bins and the task's own words, with and without the refinement."""
    from ...train.tasks_file import load_task

    edges = load_task(base.task).spec.bin_edges
    per_unit = round(edges[-1] - edges[0])
    found: dict[str, Changes] = {}
    for way, changes in ((REFINED, {}), (ALONE, WORDS_ALONE)):
        counts = [*(c for c in COUNTS[way] if c < per_unit), *([per_unit] if way == REFINED else [])]
        found |= {f"{count} equal bins, {way}": {**changes, "bins": count} for count in counts}
        found[f"the task's {len(edges) - 1} words, {way}"] = dict(changes)
    return found


def draw(figure: Figure, results: Results) -> None:
    axes = figure.subplots()
    series = {
        way: [(float(row.split()[0]), r) for row, r in results.rows().items() if row.endswith(f"equal bins, {way}")]
        for way in (REFINED, ALONE)
    }
    for name, records in results.rows().items():
        if name.startswith("the task's"):
            count = float(name.split()[2])
            series[name] = [(count, records)]
    lines(axes, series, "mae", ("bins", "MAE"))
    axes.set_xscale("log")


STUDY = Study(
    "granularity",
    "How many bins? Equal bins, from two bins to one per unit of the scale, named by their ends, compared with the task's own "
    "words and edges. `refined`: with refinement and L1. `words alone`: expectation over the bin centers, without L1.",
    rows,
    train_and_judge,
    lambda base: (MAE, Column("mae_likeliest", "MAE of the likeliest"), CS5),
    draw,
)
