"""Two benchmark reports side by side, as ratios with intervals; unlike runs are refused, with what differs.

The runs were at different times, so their rounds do not pair: intervals come from the spread between the restarts of
each run. What differs between two days is not in them; to be surer, give both models to one `numclip bench`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..runtime.tables import markdown_table
from .markdown import errors, interval
from .rows import SCHEMA_VERSION
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip compare`."""
    parser.add_argument("before", metavar="A.json", help="a report of numclip bench --json")
    parser.add_argument("after", metavar="B.json", help="another, from the same machine and scenario")


def run(args: argparse.Namespace) -> int:
    """Print B's times over A's, row by row."""
    reports = [read_report(path) for path in (args.before, args.after)]
    for path, report in zip((args.before, args.after), reports, strict=True):
        refuse_alone(path, report)
    a, b = reports
    if unlike := differences(a, b):
        raise UsageError(
            f"expected two runs alike but for the model, they differ in {'; '.join(unlike)}; run both again"
        )
    print(ratios(a, b))
    print(
        f"\nSeparate runs: the intervals (95 %) are from the spread between the restarts of each, {a['restarts']} and "
        f"{b['restarts']}; to be surer, give both models to one numclip bench."
    )
    return 0


def read_report(path: str) -> dict[str, Any]:
    """A bench report; raises UsageError where the file is none."""
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected a report of numclip bench --json ({error})") from None
    if not isinstance(report, dict) or report.get("schema_version") != SCHEMA_VERSION or "rows" not in report:
        raise UsageError(f"{path}: expected a report of numclip bench --json, schema {SCHEMA_VERSION}; make it again")
    return report  # pyright: ignore[reportUnknownVariableType]


def refuse_alone(path: str, report: dict[str, Any]) -> None:
    """Raise UsageError for a run that cannot be compared with any other, saying why."""
    if not report["valid"]:
        raise UsageError(
            f"{path}: expected a valid run, this one is not ({'; '.join(report['invalid_because'])}); run it again"
        )
    if report["scenario"] == "pipeline":
        raise UsageError(f"{path}: expected a run of models, scenario pipeline has no restarts whose spread would tell")
    if report["restarts"] < 2:
        raise UsageError(
            f"{path}: expected at least 2 restarts, whose spread tells how sure a ratio is, got 1; "
            "run it again with --restarts 6"
        )


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What keeps two runs from being compared: machine, scenario, faces, library versions, or rows that do not pair."""
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


def ratios(a: dict[str, Any], b: dict[str, Any]) -> str:
    """Markdown: each row's ratio of B over A with its interval, and the errors of both models beside it."""
    cells = [
        [
            one["model"],
            two["model"],
            one["session"]["device"],
            str(one["batch"]),
            str(one["threads"]),
            interval(_times(one, two)),
            errors(one),
            errors(two),
        ]
        for one, two in zip(a["rows"], b["rows"], strict=True)
    ]
    return markdown_table(["A", "B", "device", "batch", "threads", "B / A", "MAE A", "MAE B"], cells, 3)


def _times(one: dict[str, Any], two: dict[str, Any]) -> dict[str, float]:
    """B over A, of undisturbed calls where every restart of both has them."""
    both = [*one["restarts"], *two["restarts"]]
    name = "p50_ms" if any(r["undisturbed_p50_ms"] is None for r in both) else "undisturbed_p50_ms"
    return ratio_of_runs([r[name] for r in two["restarts"]], [r[name] for r in one["restarts"]])


def _unlike(field: str, a: dict[str, Any], b: dict[str, Any]) -> str:
    return f"{field} ({_at(a, field)} and {_at(b, field)})"


def _at(report: dict[str, Any], field: str) -> Any:
    value: Any = report
    for part in field.split("."):
        value = value.get(part)
    return value
