"""`domains`: two tasks without faces, each added by a task file only."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from .bench import Bench
from .frame import Changes, Measured, Results, Run, Study
from .head import train_and_judge
from .made_pictures import domain_data
from .plot import dots
from .rows import COARSE, COOP, EXACT, L1_ALONE, MAE, NEAR, NUMCLIP, ORDINALCLIP, PLAIN, ZERO_SHOT
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOMAINS = {"counting": "count", "digits": "digits"}
WAYS = {
    "zero-shot": ZERO_SHOT,
    "CoOp": COOP,
    "OrdinalCLIP": ORDINALCLIP,
    "NumCLIP": NUMCLIP,
    "plain contrastive": PLAIN,
    "L1 alone": L1_ALONE,
}


def rows(base: Settings) -> Mapping[str, Changes]:
    return {
        f"{name}, {way}": {**changes, "task": task} for name, task in DOMAINS.items() for way, changes in WAYS.items()
    }


def measure(bench: Bench, run: Run) -> Measured:
    changes = dict(run.changes)
    return train_and_judge(_bench_of(bench, str(changes.pop("task"))), Run(run.row, changes, run.seed))


@functools.lru_cache(maxsize=4)
def _bench_of(bench: Bench, task: str) -> Bench:
    """Return a bench with the same tower and steps for a domain's pictures."""
    return Bench(replace(bench.settings, data=(domain_data(task),), task=task))


def draw(figure: Figure, results: Results) -> None:
    every = figure.subplots(1, len(DOMAINS))
    for axes, name in zip(every, DOMAINS, strict=True):
        part = {row.partition(", ")[2]: r for row, r in results.rows().items() if row.startswith(f"{name}, ")}
        dots(axes, part, "mae", f"{name}: MAE")


STUDY = Study(
    "domains",
    "Two ordinal tasks from other domains, each defined by a task file (`train/tasks/count.json`, `digits.json`) and a table of "
    "pictures: counting 1 to 20 drawn objects, with six words from `one` to `a crowd`, and scikit-learn's handwritten digits, "
    "with one word per digit. `exact`: share of pictures whose value rounds to the label.",
    rows,
    measure,
    lambda base: (MAE, EXACT, COARSE, NEAR),
    draw,
    needs_data=False,
)
