"""`numclip compare`: ratios of comparable runs, and errors for runs that are not comparable."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from numclip.cli.main import main


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A short real run with three restarts."""
    path = tmp_path_factory.mktemp("bench") / "a.json"
    flags = ["--device", "cpu", "--batch", "1,2", "--seconds", "0.3", "--restarts", "3", "--json", str(path)]
    assert main(["bench", "age-nano", *flags]) == 0
    return json.loads(path.read_text())


def compare(tmp_path: Path, a: dict[str, Any], b: dict[str, Any]) -> int:
    """The exit code of comparing two reports."""
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, content in zip(paths, (a, b), strict=True):
        path.write_text(json.dumps(content))
    return main(["compare", *map(str, paths)])


def test_like_runs(report: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Restarts at 2, 2 and 2 ms against 1, 1 and 1 give 2.00 (2.00-2.00); the output explains the intervals."""
    slow, fast = copy.deepcopy(report), copy.deepcopy(report)
    for row in slow["rows"]:
        row["restarts"] = [{"p50_ms": 2.0, "undisturbed_p50_ms": None}] * 3
    for row in fast["rows"]:
        row["restarts"] = [{"p50_ms": 1.0, "undisturbed_p50_ms": 0.5}] * 3
    assert compare(tmp_path, fast, slow) == 0
    page = capfd.readouterr().out
    assert page.count("| 2.00 (2.00-2.00) |") == 2 and "spread between the restarts of each run (3 and 3)" in page


def test_a_run_against_itself(report: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The ratio of a run to itself is 1.00; its interval reflects the scatter of the restarts."""
    assert compare(tmp_path, report, report) == 0
    assert capfd.readouterr().out.count("| 1.00 (") == 2


UNLIKE = {
    "processor": (("environment", "cpu"), "other", "environment.cpu"),
    "version": (("environment", "versions", "numpy"), "0", "version of numpy"),
    "scenario": (("scenario",), "offline", "scenario (single-stream and offline)"),
    "faces": (("crops",), "random pixels", "crops"),
    "power mode": (("state", "before", "power_mode"), "7W", "state.before.power_mode"),
    "device": (("rows", 0, "session", "device"), "cuda", "row 1's session.device (cpu and cuda)"),
    "batch": (("rows", 1, "batch"), 16, "row 2's batch (2 and 16)"),
    "rows": (("rows",), [], "number of rows (2 and 0)"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_unlike_runs_are_refused(
    name: str, report: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Runs that differ are an error, exit code 2, with the difference and both values in one sentence."""
    where, value, named = UNLIKE[name]
    other = copy.deepcopy(report)
    inner: Any = other
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    assert compare(tmp_path, report, other) == 2
    err = capfd.readouterr().err
    assert named in err and err.count("\n") == 1


ALONE = {
    "throttled": ({"valid": False, "invalid_because": ["nvidia power cap stood at 1"]}, "nvidia power cap"),
    "one restart": ({"restarts": 1}, "--restarts 6"),
    "a pipeline": ({"scenario": "pipeline"}, "pipeline"),
    "a sustained run": ({"scenario": "sustained", "restarts": 1}, "use another scenario"),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_run_that_no_other_could_match(
    name: str, report: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A throttled run, one without a spread, a pipeline and a sustained run are errors, even if both files agree."""
    change, said = ALONE[name]
    assert compare(tmp_path, {**report, **change}, {**report, **change}) == 2
    assert said in capfd.readouterr().err


def test_other_files_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file that is not a report is an error in one sentence."""
    assert compare(tmp_path, {}, {}) == 2
    assert "a report of numclip bench --json" in capfd.readouterr().err
