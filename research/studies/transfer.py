"""`transfer`: train on one data set or on all, test on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...errors import UsageError
from .bench import Bench
from .frame import Changes, Column, Measured, Results, Run, Study
from .head import Recipe, answers, figures, train
from .plot import dots
from .rows import L1_ALONE, NUMCLIP
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WAYS = {"NumCLIP": NUMCLIP, "L1 alone": L1_ALONE}


def kinds(data: Sequence[str]) -> list[str]:
    """Return the data sets' kinds, such as `utkface`; raises UsageError if there are fewer than two."""
    if len(data) < 2:
        raise UsageError(f"expected two or more --data sets for the study transfer, got {len(data)}; add one")
    names = [text.partition(":")[0] for text in data]
    return names if len(set(names)) == len(names) else [f"{name} {at}" for at, name in enumerate(names, start=1)]


def rows(base: Settings) -> Mapping[str, Changes]:
    names = kinds(base.data)
    origins = {f"trained on {name}": [at] for at, name in enumerate(names)} | {
        "trained on all": list(range(len(names)))
    }
    return {
        f"{name}, {way}": {**changes, "train_on": at} for name, at in origins.items() for way, changes in WAYS.items()
    }


def measure(bench: Bench, run: Run) -> Measured:
    """Measure MAE and bias on every data set's val split."""
    network, n = train(bench, Recipe.of(run), run.seed)
    found: dict[str, float | None] = {"train_n": n}
    for at in range(len(bench.data)):
        pictures = bench.pictures(at, "val")
        measured = figures(answers(network, pictures.inputs), pictures.labels, network.task.spec, bench.task.spec)
        found |= {f"mae_{at}": measured["mae"], f"bias_{at}": measured["bias"], f"coarse_{at}": measured["coarse"]}
    return Measured(found)


def columns(base: Settings) -> tuple[Column, ...]:
    titles = (("mae", "MAE on", False), ("bias", "bias on", False), ("coarse", "right word, %, on", True))
    return tuple(
        Column(f"{key}_{at}", f"{title} {name}", 1 if share else 2, share)
        for key, title, share in titles
        for at, name in enumerate(kinds(base.data))
    )


def draw(figure: Figure, results: Results) -> None:
    names = kinds(results.base.data)
    every = figure.subplots(1, len(names))
    for at, (axes, name) in enumerate(zip(every, names, strict=True)):
        dots(axes, results.rows(), f"mae_{at}", f"MAE on {name}")
        if at:
            axes.set_yticklabels([])


STUDY = Study(
    "transfer",
    "Train on one data set, test on another. Every network is measured on the validation split of each set. The networks trained on "
    "all sets see the same total number of pictures as the others, drawn from all sets together.",
    rows,
    measure,
    columns,
    draw,
)
