"""A benchmark report as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

from ..runtime.tables import markdown_table
from .report import Interval, PercentileName, PipelineRow, RailFigure, Report, Row, Spread

NAMES: tuple[PercentileName, ...] = ("p50", "p90", "p95", "p99", "p99.9")
RAIL_FIGURES: tuple[RailFigure, ...] = ("rest_w", "work_w", "mj_per_face", "mj_per_face_above_rest")
JUDGED: dict[str, PercentileName] = {
    "single-stream": "p90",
    "multi-stream": "p99",
    "offline": "p50",
    "sustained": "p90",
}


def markdown(report: Report) -> str:
    """The report: what ran where, how fast, and at what cost."""
    machine, state = report["environment"], report["state"]["before"]
    head = f"{report['scenario']} on {machine['cpu']}, {machine['cores']} cores, load {state['load_1min']}"
    parts = [head] if report["valid"] else [head, f"**Invalid: {'; '.join(report['invalid_because'])}.**"]
    if report["scenario"] == "pipeline":
        return "\n\n".join([*parts, _stages(report["rows"])])
    tops = ", ".join(
        f"{p['gemm_gflops']:.0f} GFLOP/s and {p['copy_gb_s']:.0f} GB/s with {p['threads']}" for p in report["peaks"]
    )
    parts.append(
        f"{report['crops']}; {report['restarts']} restarts; peak of this machine, from a float32 matrix product and a memory "
        f"copy: {tops} threads"
    )
    parts += [_latency(report["rows"], report["scenario"]), _costs(report["rows"])]
    if any(row["energy"] for row in report["rows"]):
        parts.append(_energy(report["rows"]))
    parts += [f"- not available: {a['model']} on {a['device']}: {a['reason']}" for a in report["absent"]]
    parts += [f"- {line}" for line in report["energy_unreadable"]]
    if report["scenario"] == "sustained":
        parts.append(_drift(report["rows"]))
    return "\n\n".join(parts)


def interval(found: Interval | Spread | None, digits: int = 2) -> str:
    """A value with its 95 % interval; `too few` if there were too few samples."""
    if found is None:
        return "too few"
    value = f"{found['value']:.{digits}f}"
    return (
        value
        if found["low"] is None or found["high"] is None
        else f"{value} ({found['low']:.{digits}f}-{found['high']:.{digits}f})"
    )


def _latency(rows: Sequence[Row], scenario: str) -> str:
    judged = JUDGED[scenario]
    head = [
        "model",
        "device",
        "threads",
        "batch",
        "n",
        *(f"{n} ms" for n in NAMES),
        "interrupted",
        "faces/s",
        "times the first",
    ]
    cells = [
        [
            row["model"],
            row["device"],
            str(row["threads"]),
            str(row["batch"]),
            str(row["latency_ms"]["n"]),
            *(interval(row["latency_ms"][n]) if n in ("p50", judged) else _short(row["latency_ms"][n]) for n in NAMES),
            f"{row['interrupted']:.0%}",
            interval(row["faces_per_s"], 0),
            interval(row["ratio_to_first"]),
        ]
        for row in rows
    ]
    return markdown_table(head, cells, 2)


def _costs(rows: Sequence[Row]) -> str:
    head = ["model", "device", "threads", "batch", "MAE", "file MB", "GFLOP", "MB moved", "of GEMM peak"]
    head += ["of copy peak", "load ms", "first call ms", "RSS MB", "GPU MB", "readings ms"]
    cells = [
        [
            row["model"],
            row["device"],
            str(row["threads"]),
            str(row["batch"]),
            errors(row),
            _number(row["file_bytes"], 1e-6, 1),
            _number(row["flop_per_call"], 1e-9, 3),
            _number(row["bytes_per_call"], 1e-6, 1),
            _share(row["gemm_share"]),
            _share(row["copy_share"]),
            f"{row['load_ms']:.0f}",
            f"{row['first_call_ms']:.1f}",
            f"{row['rss_mb']:.0f}",
            _number(row["gpu_mb"], 1, 0),
            _number(row["readings_ms"], 1, 2),
        ]
        for row in rows
    ]
    return markdown_table(head, cells, 2)


def errors(row: Row) -> str:
    """The model's mean errors on its test sets, from its file's metadata."""
    return ", ".join(f"{m['mae']:.2f} {m['data']}" for m in row["mae"] if m["mae"] is not None) or "-"


def _energy(rows: Sequence[Row]) -> str:
    head = ["model", "device", "batch", "rail", "W at rest", "W at work", "mJ per face", "above rest"]
    cells = [
        [row["model"], row["device"], str(row["batch"]), rail["rail"]] + [f"{rail[n]:.2f}" for n in RAIL_FIGURES]
        for row in rows
        for rail in row["energy"]
    ]
    return markdown_table(head, cells, 4)


def _drift(rows: Sequence[Row]) -> str:
    said = [
        f"{row['model']} {row['device']} x{row['batch']}: the last third takes {interval(row.get('drift'))} times as long as the first, "
        + ("steady" if row.get("steady") else "NOT steady")
        for row in rows
    ]
    return "\n".join(f"- {line}" for line in said)


def _stages(rows: Sequence[PipelineRow]) -> str:
    """The p50 of each stage, and the p99 of the last, which is the total."""
    stages = list(rows[0]["stages"])
    head = ["model", "device", "threads", "faces", *(f"{stage} p50" for stage in stages), f"{stages[-1]} p99"]
    cells = [
        [row["model"], row["device"], str(row["threads"]), str(row["faces"])]
        + [_short(row["stages"][stage]["p50"]) for stage in stages]
        + [_short(row["stages"][stages[-1]]["p99"])]
        for row in rows
    ]
    return markdown_table(head, cells, 2)


def _short(found: Interval | None) -> str:
    return "too few" if found is None else f"{found['value']:.2f}"


def _number(value: float | None, unit: float, digits: int) -> str:
    return "-" if value is None else f"{value * unit:.{digits}f}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
