"""A benchmark report as a table that a person reads and a page takes."""

from __future__ import annotations

from typing import Any


def markdown(report: dict[str, Any]) -> str:
    """One row per contender; the share of peak is of this run's matrix product, for as many cores as threads."""
    machine = report["environment"]
    head = f"{report['scenario']} on {machine['cpu']}, {machine['cores']} cores, load {report['state']['before']['load_1min']}"
    if report["scenario"] == "pipeline":
        stages = list(report["rows"][0]["stages"])
        head_row = ["model", "threads", "faces", *(f"{stage} p50" for stage in stages), f"{stages[-1]} p99"]
        lines = [f"| {' | '.join(head_row)} |", "|---|" + "--:|" * (len(head_row) - 1)]
        for row in report["rows"]:
            middles = [_ms(row["stages"][stage], "p50") for stage in stages]
            last = _ms(row["stages"][stages[-1]], "p99")
            lines.append(f"| {row['model']} | {row['threads']} | {row['faces']} | {' | '.join(middles)} | {last} |")
    else:
        lines = [
            "| model | threads | batch | p50 ms | p90 ms | p99 ms | faces/s | of GEMM peak | times the first |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for row in report["rows"]:
            latency, times = row["latency_ms"], row["ratio_to_first"]
            cells = [_ms(latency, "p50"), _ms(latency, "p90"), _ms(latency, "p99"), f"{row['faces_per_s']:.0f}"]
            cells.append(
                _share(row["gflop_s"], report["peaks"]["gemm_gflops"] * row["threads"] / (machine["cores"] or 1))
            )
            cells.append(f"{times['value']:.2f} ({times['low']:.2f}-{times['high']:.2f})")
            lines.append(f"| {row['model']} | {row['threads']} | {row['batch']} | {' | '.join(cells)} |")
    return "\n".join([head, "", *lines])


def _ms(latency: dict[str, Any], name: str) -> str:
    found = latency[name]
    return "too few" if found is None else f"{found['value']:.2f}"


def _share(gflop_s: float | None, peak_gflops: float) -> str:
    return "unknown" if gflop_s is None else f"{gflop_s / peak_gflops:.0%}"
