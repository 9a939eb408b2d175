"""The benchmark page: MLPerf's single-stream scenario in a real browser, with a report that `numclip compare` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from numclip.cli.main import main


def test_a_browsers_report_follows_the_schema_and_compares_with_another(
    browser: Any,
    serve: Any,
    site: Path,
    site_fp32: Path,
    repo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two short runs, INT8 and float32, give valid reports, and `numclip compare` gives their ratio with an interval."""
    schema = json.loads((repo / "docs" / "bench.schema.json").read_text())
    for name, folder in (("int8", site), ("fp32", site_fp32)):
        seen = browser("bench", url=f"{serve(folder).url}bench.html?seconds=1&restarts=3", camera="none")
        assert seen["outcome"] == "done", seen
        assert seen["said"] == []
        report = json.loads(seen["report"])
        jsonschema.validate(report, schema)
        (row,) = report["rows"]
        assert row["latency_ms"]["n"] >= 36  # the samples that the 90th percentile needs
        assert row["latency_ms"]["p50"]["value"] <= row["latency_ms"]["p90"]["value"]
        (tmp_path / f"{name}.json").write_text(seen["report"])
    assert main(["compare", str(tmp_path / "fp32.json"), str(tmp_path / "int8.json")]) == 0
    said = capsys.readouterr().out
    assert "age-nano.int8" in said
    assert "wasm" in said
