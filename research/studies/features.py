"""`features`: are the image embeddings and the text bins in order? A t-SNE plot, and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from ...calibration.data.crop_cache import face_crops
from ...train.checkpoint import load_checkpoint
from .bench import Bench
from .frame import ONCE, Changes, Column, Measured, Results, Run, Study
from .head import Recipe, answers, figures, train
from .ordinality import falling_share, ordinality
from .rows import L1_ALONE, MAE, NUMCLIP, ORDINALCLIP, PLAIN, WORDS_ALONE
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURED = 500  # maximum number of pictures in a t-SNE panel
UNTRAINED = "the tower's own features"
TRAINED = {
    "NumCLIP, weights outside": NUMCLIP,
    "NumCLIP, weights inside": {"method": {"weighting": "inside"}},
    "plain contrastive": PLAIN,
    "words alone": WORDS_ALONE,
    "OrdinalCLIP": ORDINALCLIP,
    "L1 alone": L1_ALONE,
}


def rows(base: Settings) -> Mapping[str, Changes]:
    """Return the rows: nothing trained; each method; and, with --checkpoint, a network whose tower was trained."""
    found = {UNTRAINED: {ONCE: "features"}, **{name: dict(changes) for name, changes in TRAINED.items()}}
    if base.checkpoint is not None:
        found[f"{Path(base.checkpoint).name}, its tower trained"] = {ONCE: "checkpoint"}
    return found


def measure(bench: Bench, run: Run) -> Measured:
    """Measure the ordinality of the val split's embeddings and of the text bins; with the first seed, make the t-SNE plot."""
    pictures = bench.pictures(0, "val")
    labels = pictures.labels
    found: dict[str, float | None] = {}
    if run.changes.get(ONCE) == "features":
        embedding = functional.normalize(pictures.inputs.float().flatten(1), dim=1).cpu().numpy()
    else:
        if ONCE in run.changes:
            network, _ = load_checkpoint(Path(str(bench.settings.checkpoint)))
            # by the network's own crop contract, which may be wider and larger than the study's
            faces = face_crops(bench.data[0].select("val"), network.task.crop(network.record.image_side))
            inputs, labels = torch.from_numpy(np.array(faces.crops)), faces.labels
        else:
            network, _ = train(bench, Recipe.of(run), run.seed)
            inputs = pictures.inputs
        outputs = answers(network, inputs)
        embedding = outputs.embedding
        measured = figures(outputs, labels, network.task.spec, bench.task.spec)
        found |= {name: measured[name] for name in ("mae", "coarse")}
        with torch.no_grad():
            bins = network.text_bins().double().cpu().numpy()
        centers = np.array(network.task.spec.bin_centers)
        found |= {"bins_spearman": round(ordinality(centers, bins), 4), "bins_falling": round(falling_share(bins), 4)}
    found["spearman"] = round(ordinality(labels, embedding.astype(np.float64)), 4)
    measured = Measured(found)
    return _with_picture(measured, embedding, labels) if run.seed == 0 else measured


def _with_picture(measured: Measured, embedding: npt.NDArray[np.float32], labels: npt.NDArray[np.float64]) -> Measured:
    """Add a t-SNE of some of the pictures: positions scaled to a square of side 2, and labels."""
    from sklearn.manifold import TSNE

    chosen = np.linspace(0, len(labels) - 1, min(PICTURED, len(labels))).astype(int)
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    places = TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=0).fit_transform(
        embedding[chosen]
    )
    places = places / np.abs(places).max()
    rounded = tuple(tuple(round(float(x), 3) for x in place) for place in places)
    return replace(measured, places=rounded, labels=tuple(float(v) for v in labels[chosen]))


def draw(figure: Figure, results: Results) -> None:
    """Draw one panel per row, coloured by label."""
    panels = [r for r in results.runs if r.measured.places is not None]
    columns = min(4, len(panels))
    figure.set_size_inches(9, 2.4 * -(-len(panels) // columns))
    every = list(figure.subplots(-(-len(panels) // columns), columns, squeeze=False).flat)
    highest = max(max(r.measured.labels or (0.0,)) for r in panels)
    for axes in every:
        axes.set_axis_off()
    for axes, record in zip(every, panels, strict=False):
        x, y = np.array(record.measured.places).T
        dots = axes.scatter(x, y, c=record.measured.labels, s=4, cmap="viridis", vmin=0, vmax=highest)
        axes.set_title(record.run.row, fontsize=7)
        if record is panels[-1]:
            figure.colorbar(dots, ax=every, label="label", shrink=0.6)


STUDY = Study(
    "features",
    "Are the embeddings in order? `pictures`: Spearman's correlation, over all pairs of validation pictures, between the "
    "difference of their labels and the cosine distance of their embeddings (1: perfect order, 0: no order). `text bins`: the "
    "same over pairs of words. `steps outwards`: take a word and move away from it word by word; the share of steps that lower "
    "the similarity to it (chance: 50 %). The plot is a t-SNE of the embeddings of the first seed, coloured by label.",
    rows,
    measure,
    lambda base: (
        Column("spearman", "pictures", 3),
        Column("bins_spearman", "text bins", 3),
        Column("bins_falling", "steps outwards, %", 1, percent=True),
        MAE,
    ),
    draw,
)
