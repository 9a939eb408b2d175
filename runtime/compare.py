"""Two benchmark reports side by side, as ratios with intervals; unlike runs are refused, with what differs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .bench import SCHEMA_VERSION
from .bench_statistics import ratio

MUST_AGREE = ("scenario", "environment.cpu", "environment.cores", "environment.system", "environment.python")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip compare`."""
    parser.add_argument("before", metavar="A.json", help="a report of numclip bench --json")
    parser.add_argument("after", metavar="B.json", help="another, from the same machine and scenario")


def run(args: argparse.Namespace) -> int:
    """Print B's times over A's, row by row."""
    a, b = read_report(args.before), read_report(args.after)
    unlike = differences(a, b)
    if unlike:
        raise UsageError(
            f"expected two runs alike but for the model, they differ in {'; '.join(unlike)}; run both again"
        )
    print(table(a, b))
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


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What keeps two runs from being compared: machine, scenario, library versions, device, or rows that do not pair."""
    found = [f"{f} ({_at(a, f)} and {_at(b, f)})" for f in MUST_AGREE if _at(a, f) != _at(b, f)]
    versions = [r["environment"]["versions"] for r in (a, b)]
    for name in sorted(set(versions[0]) | set(versions[1])):
        if name != "numclip" and versions[0].get(name) != versions[1].get(name):
            found.append(f"version of {name} ({versions[0].get(name)} and {versions[1].get(name)})")
    if a["scenario"] == "pipeline":
        found.append("scenario pipeline, which is not compared by rounds")
    elif not found:
        shapes = [[(row["batch"], row["threads"], row["session"]["device"]) for row in r["rows"]] for r in (a, b)]
        if shapes[0] != shapes[1]:
            found.append(f"batch, threads and device of the rows ({shapes[0]} and {shapes[1]})")
    return found


def table(a: dict[str, Any], b: dict[str, Any]) -> str:
    """Markdown: each row's ratio of B over A with its interval, and the errors of both models beside it."""
    lines = ["| A | B | batch | threads | B / A | MAE A | MAE B |", "|---|---|--:|--:|--:|--:|--:|"]
    for one, two in zip(a["rows"], b["rows"], strict=True):
        times = ratio(two["round_medians_ms"], one["round_medians_ms"], paired=False)
        cells = [f"{times['value']:.2f} ({times['low']:.2f}-{times['high']:.2f})", _errors(one), _errors(two)]
        lines.append(f"| {one['model']} | {two['model']} | {one['batch']} | {one['threads']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _errors(row: dict[str, Any]) -> str:
    return ", ".join(f"{m['mae']:.2f}" for m in row["mae"] if m["mae"] is not None) or "not measured"


def _at(report: dict[str, Any], field: str) -> Any:
    value: Any = report
    for part in field.split("."):
        value = value.get(part)
    return value
