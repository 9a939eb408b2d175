"""The benchmark's statistics by hand, its turns, and whole runs of the command (never a time)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numclip.cli import main
from numclip.runtime.bench_contest import MIN_ROUNDS, Contender, contest
from numclip.runtime.bench_markdown import markdown
from numclip.runtime.bench_statistics import percentile, ratio, samples_for


def test_samples_a_percentile_needs() -> None:
    """0.9^29 is the first power of 0.9 under 5 %: p90 needs 29 samples, p99 299, p99.9 2995."""
    assert [samples_for(q) for q in (0.5, 0.9, 0.99, 0.999)] == [5, 29, 299, 2995]
    assert percentile(range(28), 0.9) is None and percentile(range(29), 0.9) is not None


def test_percentiles_of_1_to_1000() -> None:
    """Of 1 ... 1000 the p50 is 500 or 501, its interval the ranks 500 -+ 31 (1.96 sqrt(250))."""
    got = percentile(list(range(1, 1001)), 0.5)
    assert got is not None
    assert got["value"] == pytest.approx(500.5, abs=0.6)
    assert got["low"] == pytest.approx(469.5, abs=1) and got["high"] == pytest.approx(531.5, abs=1)


def test_the_interval_holds_the_percentile() -> None:
    """Over 400 samples of known quantiles, the 95 % interval of p90 holds the true one in 90 to 99 % of them."""
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        got = percentile(random.uniform(0, 1, 300).tolist(), 0.9)
        assert got is not None
        inside += got["low"] <= 0.9 <= got["high"]
    assert 0.90 <= inside / 400 <= 0.99


@given(st.floats(0.2, 5), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_ratio_of_a_known_factor(factor: float, seed: int) -> None:
    """A contender that takes f times as long, under shared noise, is measured as f; against itself as exactly 1."""
    times = np.random.default_rng(seed).uniform(1, 3, 20)
    got = ratio((factor * times).tolist(), times.tolist(), paired=True)
    assert got["value"] == pytest.approx(factor) and got["low"] <= got["value"] <= got["high"]
    assert ratio(times.tolist(), times.tolist(), paired=True) == {"value": 1, "low": 1, "high": 1}


def test_contenders_take_turns() -> None:
    """All are called in every round, at least ten rounds, in an order that changes."""
    log: list[str] = []
    a, b = (Contender(n, lambda n=n: log.append(n)) for n in "ab")
    contest([a, b], seconds=0.01, quantile=0.9, progress=lambda: None)
    turns = [name for i, name in enumerate(log) if i == 0 or log[i - 1] != name]
    assert len(a.round_medians_ms) == len(b.round_medians_ms) >= MIN_ROUNDS
    assert turns.count("a") >= 5 and turns.count("b") >= 5 and a.warm_up_calls >= 10


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two short runs of the shipped model against itself, at batch 1 and 2."""
    folder = tmp_path_factory.mktemp("bench")
    paths = (folder / "a.json", folder / "b.json")
    for path in paths:
        flags = ["--device", "cpu", "--batch", "1,2", "--seconds", "0.5", "--json", str(path)]
        assert main(["bench", "age-nano", *flags]) == 0
    return paths


def test_a_report_says_what_ran_where(reports: tuple[Path, Path]) -> None:
    """Rows carry model hash, error, parity, load and first call apart, percentiles with n; the environment names no host."""
    report = json.loads(reports[0].read_text())
    assert [row["batch"] for row in report["rows"]] == [1, 2] and report["scenario"] == "single-stream"
    row = report["rows"][0]
    assert len(row["sha256"]) == 64 and row["load_ms"] > 0 and row["first_call_ms"] > 0
    assert row["latency_ms"]["n"] >= 29 and row["latency_ms"]["p90"]["low"] <= row["latency_ms"]["p90"]["high"]
    assert row["ratio_to_first"] == {"value": 1, "low": 1, "high": 1}
    assert report["rows"][1]["ratio_to_first"]["value"] > 1, "two faces take longer than one"
    assert report["peaks"]["gemm_gflops"] > 0 and "node" not in json.dumps(report["environment"])


def test_compare_like_runs(reports: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    """Two runs alike give a table with one ratio per row."""
    assert main(["compare", *map(str, reports)]) == 0
    table = capfd.readouterr().out
    assert table.count("| age-nano | age-nano |") == 2


UNLIKE = {
    "another processor": (("environment", "cpu"), "other", "environment.cpu"),
    "another version": (("environment", "versions", "numpy"), "0", "version of numpy"),
    "another scenario": (("scenario",), "offline", "scenario"),
    "another device": (("rows", 0, "session", "device"), "cuda", "batch, threads and device"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_compare_refuses_unlike_runs(name: str, reports: tuple[Path, Path], tmp_path: Path, capfd) -> None:
    """What differs is named in one sentence, exit code 2."""
    where, value, named = UNLIKE[name]
    report = json.loads(reports[1].read_text())
    inner = report
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    (tmp_path / "c.json").write_text(json.dumps(report))
    assert main(["compare", str(reports[0]), str(tmp_path / "c.json")]) == 2
    err = capfd.readouterr().err
    assert named in err and err.count("\n") == 1


def test_compare_refuses_other_files(tmp_path: Path, capfd) -> None:
    """A file that is no report is refused in one sentence."""
    (tmp_path / "a.json").write_text("{}")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 2
    assert "expected a report of numclip bench" in capfd.readouterr().err


def test_markdown_share_of_peak() -> None:
    """Half of one core's share of a two-core peak of 100 GFLOP/s is 25 GFLOP/s; none is claimed without a count."""
    latency = {name: {"value": 2.0, "low": 1.0, "high": 3.0} for name in ("p50", "p90", "p99")}
    row = {"model": "a", "threads": 1, "batch": 1, "latency_ms": latency, "faces_per_s": 500.0, "gflop_s": 25.0}
    row |= {"ratio_to_first": {"value": 1, "low": 1, "high": 1}}
    report = {"scenario": "offline", "environment": {"cpu": "c", "cores": 2}, "state": {"before": {"load_1min": 0}}}
    report |= {"peaks": {"gemm_gflops": 100.0}, "rows": [row, {**row, "gflop_s": None}]}
    lines = markdown(report).splitlines()
    assert "| 50% |" in lines[-2] and "| unknown |" in lines[-1]


@pytest.mark.parametrize("name", ["eager:nano", "clip:nano", "clip-cached:nano"])
def test_rivals_answer_crops(name: str) -> None:
    """A rival takes the model file's own crops, says on what it runs, and counts its work per face where it can."""
    pytest.importorskip("torch", reason="needs the extra export")
    pytest.importorskip("onnx", reason="needs the extra export")
    from numclip.export.rivals import open_rival

    rival = open_rival(name, threads=1)
    answer = rival(np.zeros((2, rival.side, rival.side, 3), np.uint8))
    assert len(answer[0] if isinstance(answer, tuple) else answer) == 2
    assert rival.session["library"] == "torch" and (rival.multiply_adds is None) == (name == "clip:nano")


def test_a_rival_that_is_none(capfd) -> None:
    """An unknown kind is refused with those there are, exit code 2."""
    pytest.importorskip("torch", reason="needs the extra export")
    pytest.importorskip("onnx", reason="needs the extra export")
    assert main(["bench", "age-nano", "--device", "cpu", "--rivals", "keras:nano"]) == 2
    assert "compiled" in capfd.readouterr().err


def test_bad_flags(capfd) -> None:
    """A pipeline without a clip, no seconds, and a batch of zero are refused with exit code 2."""
    assert main(["bench", "age-nano", "--scenario", "pipeline"]) == 2
    assert main(["bench", "age-nano", "--seconds", "0"]) == 2
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "age-nano", "--batch", "1,0"])
    assert exit_.value.code == 2 and "whole numbers above 0" in capfd.readouterr().err
