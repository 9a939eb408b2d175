"""Plots of the studies: dots or lines with their spread. matplotlib is imported when a plot is drawn."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DeviceError, OutputError
from .frame import Results, Row, Study, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#1f5f8b", "#c8632d", "#4b8b3b", "#7a4f9a", "#8a8a8a", "#b03a5b")
SIZE_INCHES, DOTS_PER_INCH = (7.0, 3.6), 110


def write_plot(path: Path, study: Study, results: Results) -> None:
    """Draw a study's plot as PNG; raises DeviceError without matplotlib, OutputError if it cannot be written."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise DeviceError(
            "expected matplotlib for the plot, but it is not installed; run: pip install 'numclip[study]'"
        ) from None
    figure = Figure(SIZE_INCHES, DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    study.draw(figure, results)
    temporary = path.with_name(f".{path.name}.part")
    try:
        figure.savefig(temporary, format="png", metadata={"Software": None})
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror}); give another --out") from None
    finally:
        temporary.unlink(missing_ok=True)


def dots(axes: Axes, rows: Mapping[str, Sequence[Row]], key: str, title: str) -> None:
    """Draw one dot per row, with its spread over seeds."""
    found = [(row, s) for row, records in rows.items() if (s := spread(records, key)) is not None]
    means, deviations = [s.mean for _, s in found], [s.deviation or 0.0 for _, s in found]
    axes.errorbar(
        means, range(len(found)), xerr=deviations, fmt="o", ms=4, capsize=2, color=COLOURS[0], ecolor=COLOURS[1]
    )
    axes.set_yticks(range(len(found)), [row for row, _ in found], fontsize=7)
    axes.invert_yaxis()
    axes.grid(axis="y", alpha=0.3)
    axes.set_xlabel(title, fontsize=8)


def lines(
    axes: Axes, series: Mapping[str, Sequence[tuple[float, Sequence[Row]]]], key: str, labels: tuple[str, str]
) -> None:
    """Draw one line per series over x, with its spread over seeds. labels: of the x and y axes."""
    for colour, (name, points) in zip(COLOURS, series.items(), strict=False):
        found = [(x, s) for x, records in points if (s := spread(records, key)) is not None]
        x, y = [p for p, _ in found], [s.mean for _, s in found]
        axes.errorbar(
            x, y, yerr=[s.deviation or 0.0 for _, s in found], label=name, color=colour, marker="o", ms=3, capsize=2
        )
    axes.set_xlabel(labels[0], fontsize=8)
    axes.set_ylabel(labels[1], fontsize=8)
    axes.legend(fontsize=7)
