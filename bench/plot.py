"""A plot of benchmark reports: each contender's median and tail, and its ratio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OutputError
from .report import PercentileName, PipelineRow, Report, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR_IN, WIDTH_IN = 0.34, 10.0
OURS, RIVAL, TAIL = "#1f77b4", "#b8b8b8", "#333333"
STAGE_COLORS = "tab20"


def plot(reports: Sequence[Report], path: Path, titles: Sequence[str] = ()) -> None:
    """Draw reports below each other, and write an .svg or .png file."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    heights = [0.9 + BAR_IN * len(report["rows"]) for report in reports]
    # Text stays text and ids are fixed, so that equal figures give an identical file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "numclip", "font.size": 9}):
        figure = Figure(figsize=(WIDTH_IN, sum(heights)), layout="constrained")
        axes = figure.subplots(len(reports), 1, squeeze=False, height_ratios=heights)[:, 0]
        for i, (axis, report) in enumerate(zip(axes, reports, strict=True)):
            _draw(axis, report)
            machine = report["environment"]
            name = titles[i] if titles else report["scenario"]
            invalid = "" if report["valid"] else ", INVALID: " + "; ".join(report["invalid_because"])
            axis.set_title(f"{name} - {machine['cpu']}, {machine['cores']} cores{invalid}", loc="left", fontsize=10)
        try:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise OutputError(f"cannot write {path} ({error.strerror}); give another --plot FILE") from None


def _draw(axis: Axes, report: Report) -> None:
    if report["scenario"] == "pipeline":
        _stages(axis, report["rows"])
    elif report["scenario"] == "sustained":
        _time_line(axis, report["rows"])
    else:
        _bars(axis, report["rows"])
    axis.spines[["top", "right"]].set_visible(False)


def _bars(axis: Axes, rows: Sequence[Row]) -> None:
    """p50 as a bar, with a whisker to the highest percentile that has enough samples."""
    longest = 0.0
    for at, row in enumerate(rows):
        latency = row["latency_ms"]
        p50 = latency["p50"]["value"] if latency["p50"] else row["restarts"][0]["p50_ms"]
        names: tuple[PercentileName, ...] = ("p90", "p99")
        tails = [(name, found["value"]) for name in names if (found := latency[name])]
        end = max([value for _, value in tails], default=p50)
        axis.barh(at, p50, color=OURS if row["sha256"] else RIVAL, height=0.7)
        axis.plot([p50, end], [at, at], color=TAIL, linewidth=1)
        axis.plot([end], [at], "|", color=TAIL)
        times = row["ratio_to_first"]
        said = f"{p50:.3g} ms" + (f", {tails[-1][0]} {end:.3g}" if tails else "")
        axis.annotate(
            f"{said}   {times['value']:.2f}x ({times['low']:.2f}-{times['high']:.2f})",
            (end, at),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
        longest = max(longest, end)
    axis.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axis.invert_yaxis()
    axis.set_xlim(0, 1.5 * longest)
    axis.set_xlabel("ms per call: p50 as bar, line to the tail; times the first contender of the same batch (95 %)")


def _stages(axis: Axes, rows: Sequence[PipelineRow]) -> None:
    """The medians of the stages, stacked, per number of faces."""
    from matplotlib import colormaps

    names = list(rows[0]["stages"])[:-1]  # the last is the total
    for at, row in enumerate(rows):
        left = 0.0
        for i, name in enumerate(names):
            found = row["stages"][name]["p50"]
            width = found["value"] if found else 0.0
            axis.barh(
                at, width, left=left, height=0.7, color=colormaps[STAGE_COLORS](i), label=name if at == 0 else None
            )
            left += width
    axis.set_yticks(range(len(rows)), [f"{row['model']}, faces: {row['faces']}" for row in rows])
    axis.invert_yaxis()
    axis.legend(ncols=len(names), fontsize=8, frameon=False)
    axis.set_xlabel("ms per frame, p50 of each stage")


def _time_line(axis: Axes, rows: Sequence[Row]) -> None:
    for row in rows:
        windows = row.get("windows", [])
        axis.plot([w["at_s"] for w in windows], [w["p50_ms"] for w in windows], label=_label(row))
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=8, frameon=False)
    axis.set_xlabel("seconds at work")
    axis.set_ylabel("p50 ms")


def _label(row: Row) -> str:
    return f"{row['model']} {row['device']} x{row['batch']} t{row['threads']}"
