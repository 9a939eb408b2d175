"""Compare two benchmark reports as ratios with intervals. Runs that differ in more than the model are an error.

The runs took place at different times, so the intervals come from the spread between the restarts of each run. They do not cover
differences between two days. For a more certain comparison, time both models in one `numclip bench`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..errors import UsageError
from ..runtime.tables import markdown_table
from .markdown import errors, interval
from .report import SCHEMA_VERSION, ContestReport, Interval, Report, Row
from .statistics import ratio_of_runs

MUST_AGREE = (
    "scenario",
    "crops",
    "environment.cpu",
    "environment.cores",
    "environment.board",
    "environment.jetpack",
    "environment.nvidia_driver",
    "environment.memory_gb",
    "environment.system",
    "environment.python",
    "state.before.power_mode",
)
ROW_MUST_AGREE = ("batch", "threads", "session.library", "session.device")


@dataclass(frozen=True)
class Comparison:
    """Two reports of comparable runs."""

    before: ContestReport
    after: ContestReport

    @property
    def ratios(self) -> list[Interval]:
        """Each row's time in the second report divided by that in the first, with a 95 % interval."""
        return [_times(one, two) for one, two in zip(self.before["rows"], self.after["rows"], strict=True)]

    def markdown(self) -> str:
        """Each row's ratio with its interval, and the errors of both models, as Markdown."""
        cells = [
            [
                one["model"],
                two["model"],
                str(one["session"]["device"]),
                str(one["batch"]),
                str(one["threads"]),
                interval(times),
                errors(one),
                errors(two),
            ]
            for one, two, times in zip(self.before["rows"], self.after["rows"], self.ratios, strict=True)
        ]
        return markdown_table(["A", "B", "device", "batch", "threads", "B / A", "MAE A", "MAE B"], cells, 3)


def compare(before: str | Path, after: str | Path) -> Comparison:
    """Compare two reports of `numclip bench --json`; raises UsageError for runs that cannot be compared, with the reason."""
    a, b = (comparable(path, read_report(path)) for path in (before, after))
    if unlike := differences(a, b):
        raise UsageError(
            f"expected two runs that differ only in the model, but they differ in {'; '.join(unlike)}; run both again"
        )
    return Comparison(a, b)


def read_report(path: str | Path) -> Report:
    """Read a bench report; raises UsageError if the file is not one."""
    try:
        report: object = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: cannot read it as a report of numclip bench --json ({error}); give another file"
        ) from None
    fields = cast("dict[str, object]", report) if isinstance(report, dict) else {}
    if fields.get("schema_version") != SCHEMA_VERSION or "rows" not in fields:
        raise UsageError(
            f"{path}: expected a report of numclip bench --json with schema version {SCHEMA_VERSION}; make it again"
        )
    return cast("Report", report)


def comparable(path: str | Path, report: Report) -> ContestReport:
    """The report, if it can be compared with others; raises UsageError with the reason if not."""
    if not report["valid"]:
        raise UsageError(f"{path}: the run is marked invalid ({'; '.join(report['invalid_because'])}); run it again")
    if report["scenario"] == "pipeline" or report["scenario"] == "sustained":
        raise UsageError(
            f"{path}: reports of scenario {report['scenario']} cannot be compared, because they have no restarts to estimate "
            "the spread from; use another scenario"
        )
    if report["restarts"] < 2:
        raise UsageError(
            f"{path}: expected at least 2 restarts, from whose spread the intervals come, got 1; run it again with "
            "--restarts 6"
        )
    return report


def differences(a: ContestReport, b: ContestReport) -> list[str]:
    """The differences that prevent a comparison: machine, scenario, faces, library versions, or rows that do not match."""
    found = [_unlike(field, a, b) for field in MUST_AGREE if _at(a, field) != _at(b, field)]
    versions = [report["environment"]["versions"] for report in (a, b)]
    for name in sorted(set(versions[0]) | set(versions[1])):
        if name != "numclip" and versions[0].get(name) != versions[1].get(name):
            found.append(f"version of {name} ({versions[0].get(name)} and {versions[1].get(name)})")
    if len(a["rows"]) != len(b["rows"]):
        return [*found, f"number of rows ({len(a['rows'])} and {len(b['rows'])})"]
    for i, (one, two) in enumerate(zip(a["rows"], b["rows"], strict=True), 1):
        found += [f"row {i}'s {_unlike(f, one, two)}" for f in ROW_MUST_AGREE if _at(one, f) != _at(two, f)]
    return found


def _times(one: Row, two: Row) -> Interval:
    """The second time divided by the first, from undisturbed calls if every restart of both has them."""
    medians = [[r["undisturbed_p50_ms"] for r in row["restarts"]] for row in (one, two)]
    if any(ms is None for row in medians for ms in row):
        medians = [[r["p50_ms"] for r in row["restarts"]] for row in (one, two)]
    ours, theirs = ([ms for ms in row if ms is not None] for row in reversed(medians))
    return ratio_of_runs(ours, theirs)


def _unlike(field: str, a: Mapping[str, object], b: Mapping[str, object]) -> str:
    return f"{field} ({_at(a, field)} and {_at(b, field)})"


def _at(report: Mapping[str, object], field: str) -> object:
    name, _, rest = field.partition(".")
    value = report.get(name)
    return _at(cast("Mapping[str, object]", value), rest) if rest else value
