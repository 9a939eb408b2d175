"""The report of `numclip evaluate --report DIR`: the same figures as a Markdown page, as JSON, and as plots."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ...errors import DeviceError, OutputError
from ...runtime.contract.gate_table import NEAR
from ...runtime.contract.spec import TaskSpec
from ...runtime.places import write_json, write_whole
from ...runtime.tables import markdown_table
from .band_measures import BandEvaluation, band_lines
from .measures import CLEARLY, GATE, SMALL, Estimate, Figures, GateRow, Rate, Widths
from .predictor import Predictions
from .stress import StressRow
from .summary import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE = "#1f5f8b", "#c8632d"
NOTE = (
    f"Brackets contain 95 % intervals. (few): fewer than {SMALL} faces, so the figures are rough. Gate: {GATE[0]:g} at an error rate of "
    f"{GATE[1]:.0%}."
)
SHOWN_LEVELS = np.arange(0.1, 1.0, 0.1)
Draw: TypeAlias = "Callable[[Axes, Evaluation, Predictions], None]"


def write_band_report(folder: Path, result: BandEvaluation) -> None:
    """Write report.json and report.md; raises OutputError."""
    title = f"# {Path(result.model).name} on {result.data.partition(':')[0]}, {result.split}"
    found = f"{result.n} faces, {result.skipped} pictures without a detected face, detector {result.detector}."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "report.json", result.to_json())
        write_whole(folder / "report.md", "\n".join([title, "", found, *band_lines(result), ""]).encode())
    except OSError as error:
        raise OutputError(
            f"cannot write {error.filename or folder} ({error.strerror}); give another --report"
        ) from None


def write_report(folder: Path, result: Evaluation, predictions: Predictions) -> None:
    """Write report.json, report.md and, if there are intervals, three plots; raises OutputError, DeviceError."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
    except ImportError:
        raise DeviceError(
            "--report needs the package matplotlib, which is not installed; run: pip install 'numclip[demo]'"
        ) from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "report.json", result.to_json())
        plots: dict[str, Draw] = {"error.png": _errors}
        if result.overall.coverage is not None:
            plots |= {"reliability.png": _reliability, "width.png": _widths}
        for name, draw in plots.items():
            _plot(folder / name, draw, result, predictions)
        write_whole(folder / "report.md", markdown(result, predictions.readings.spec.task, list(plots)).encode())
    except OSError as error:
        raise OutputError(
            f"cannot write {error.filename or folder} ({error.strerror}); give another --report"
        ) from None


def markdown(result: Evaluation, task: TaskSpec, plots: Sequence[str]) -> str:
    """The page."""
    lines = [
        f"# {Path(result.model).name} on {result.data.partition(':')[0]}, {result.split}",
        "",
        f"{result.n} faces, {result.skipped} pictures without a detected face, detector {result.detector}.",
        *sentences(result, task),
        "",
        NOTE,
        "",
        figures_table(result.named_rows(), "true value or group"),
        "",
        "By estimated value:",
        "",
        figures_table([(band.name, band.figures) for band in result.bands_by_value], "value"),
    ]
    if result.gates:
        lines += ["", *gate_table(result.gates)]
    if result.stress:
        lines += ["", *stress_table(result.stress)]
    return "\n".join([*lines, "", *(f"![{name}]({name})" for name in plots), ""])


def sentences(result: Evaluation, task: TaskSpec) -> list[str]:
    """The figures over all faces, as sentences."""
    lines = [
        f"MAE **{_with(result.overall.mae, '.2f')}** {task.unit}, within 5: {result.cs5:.1%}, "
        f"bias {_with(result.overall.bias, '+.2f')}."
    ]
    if result.widths is None:
        return [*lines, "Not calibrated, so no intervals."]
    shares = "; ".join(
        f"at {float(level):.0%} {share:.1%}, mean width {width:.1f}"
        for level, share in result.coverage.items()
        if share is not None and (width := result.width[level]) is not None
    )
    return [*lines, f"Coverage of the intervals: {shares}.", widths_sentence(result.widths)]


def widths_sentence(width: Widths) -> str:
    """The width of the intervals compared with two simpler kinds."""
    return (
        f"At the coverage of these 90 % intervals, the mean width is {width.ours:.1f}; a single quantile for all "
        f"faces would need {width.one_for_all:.1f}, the words' probabilities alone {width.words:.1f}."
    )


def figures_table(rows: Sequence[tuple[str, Figures]], title: str) -> str:
    """A Markdown table of figures by name."""
    head = [
        title,
        "n",
        "MAE",
        "bias",
        "coverage at 90 %",
        "width",
        f"yes from {GATE[0] - NEAR:g} to {GATE[0]:g}",
        f"no from {GATE[0]:g} to {GATE[0] + NEAR:g}",
    ]
    body = [
        [
            name + (" (few)" if row.few else ""),
            str(row.n),
            _with(row.mae, ".2f"),
            _with(row.bias, "+.2f"),
            _with(row.coverage, ".1%"),
            _with(row.width, ".1f"),
            _with(row.gate and row.gate.false_accept.share, ".1%"),
            _with(row.gate and row.gate.false_reject.share, ".1%"),
        ]
        for name, row in rows
    ]
    return markdown_table(head, body, texts=1)


def stress_table(rows: Sequence[StressRow]) -> list[str]:
    """Markdown lines of the figures on degraded pictures of the same faces, for all faces and for children."""
    young = f"below {GATE[0]:g}"
    head = ["picture", "n", "MAE", "bias", "coverage at 90 %", "width", f"{young}: n", "MAE", "coverage at 90 %"]
    head += [f"within {NEAR:g} below: n", "yes"]
    body: list[list[str]] = []
    for row in rows:
        all_, below = row.figures, row.below
        cells = [row.name, str(all_.n), _plain(all_.mae, ".2f"), _plain(all_.bias, "+.2f")]
        cells += [_plain(all_.coverage, ".1%"), _plain(all_.width, ".1f"), str(below.n if below else 0)]
        cells += [_plain(below and below.mae, ".2f"), _plain(below and below.coverage, ".1%")]
        near = below.gate.false_accept if below and below.gate else None
        cells += [str(near.n if near else 0), _plain(near and near.share, ".1%")]
        body.append(cells)
    return [
        "Degraded pictures of the same faces, made by `calibration/measure/degrade.py`:",
        "",
        markdown_table(head, body, texts=1),
    ]


def gate_table(rows: Sequence[GateRow]) -> list[str]:
    """Markdown lines of the gates' error rates, and of the people who are not asked."""
    head = [
        "at least",
        "error rate",
        "looks",
        f"yes within {NEAR:g} below",
        f"no within {NEAR:g} above",
        f"yes from {CLEARLY:g} above",
    ]
    body = [
        [f"{row.threshold:g}", f"{row.error:.1%}", str(row.looks), *map(_of_n, row.rates.by_name().values())]
        for row in rows
    ]
    note = "Gates, with exact 95 % intervals in brackets. A look is one run of the model; more than one look is simulated from one picture:"
    return [note, "", markdown_table(head, body, texts=1)]


def _of_n(rate: Rate) -> str:
    return f"{_with(rate.share, '.1%')} of {rate.n}"


def _plain(figure: Estimate | None, how: str) -> str:
    return "" if figure is None else f"{figure.value:{how}}"


def _with(figure: Estimate | None, how: str) -> str:
    """A figure with its interval, or an empty string if it was not measured."""
    return "" if figure is None else f"{figure.value:{how}} ({figure.low:{how}} to {figure.high:{how}})"


def _plot(path: Path, draw: Draw, result: Evaluation, p: Predictions) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.6, 4.2), constrained_layout=True)
    draw(axes, result, p)
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    plt.close(figure)
    write_whole(path, picture.getvalue())


def _reliability(axes: Axes, result: Evaluation, p: Predictions) -> None:
    """Requested level against measured coverage."""
    held: list[float] = []
    for level in SHOWN_LEVELS:
        low, high = p.readings.interval(float(level)).T
        held.append(float(((p.labels >= low) & (p.labels <= high)).mean()))
    axes.plot([0, 1], [0, 1], color="0.7", lw=1)
    axes.plot(SHOWN_LEVELS, held, "o-", color=BLUE)
    axes.set(xlabel="level of the interval", ylabel="coverage", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"{result.n} faces", loc="left")


def _errors(axes: Axes, result: Evaluation, p: Predictions) -> None:
    """Error by true value: the median and the middle 80 % over a sliding window."""
    task = p.readings.spec.task
    order = np.argsort(p.labels, kind="stable")
    size = max(10, len(order) // 25)
    at = range(0, max(1, len(order) - size), max(1, size // 4))
    error = (p.values - p.labels)[order]
    centers = [float(np.mean(p.labels[order][i : i + size])) for i in at]
    low, middle, high = np.array([np.quantile(error[i : i + size], (0.1, 0.5, 0.9)) for i in at]).T
    axes.axhline(0, color="0.7", lw=1)
    axes.fill_between(centers, low, high, color=BLUE, alpha=0.2, lw=0, label="middle 80 %")
    axes.plot(centers, middle, color=BLUE, label="median")
    axes.set(xlabel=f"true {task.name}, {task.unit}", ylabel=f"estimated - true value, {task.unit}")
    axes.set_title(f"MAE {result.mae:.2f} {task.unit}", loc="left")
    axes.legend(frameon=False)


def _widths(axes: Axes, result: Evaluation, p: Predictions) -> None:
    """Width of the 90 % interval by value."""
    task = p.readings.spec.task
    low, high = p.readings.interval(0.9).astype(np.float64).T
    axes.scatter(p.values, high - low, s=4, color=ORANGE, alpha=0.35, lw=0)
    axes.set(
        xlabel=f"estimated {task.name}, {task.unit}", ylabel=f"width of the 90 % interval, {task.unit}", ylim=(0, None)
    )
    axes.set_title(f"mean {np.mean(high - low):.1f} {task.unit}", loc="left")
