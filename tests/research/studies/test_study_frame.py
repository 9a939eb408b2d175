"""The framework of a study: finished runs are kept, missing runs are done, other settings are an error."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from numclip.errors import DataError
from numclip.research.studies.bench import Bench
from numclip.research.studies.frame import (
    ONCE,
    Measured,
    Record,
    Results,
    Run,
    Spread,
    Study,
    carry_out,
    load,
    open_results,
    plan,
    save,
    spread,
)
from numclip.research.studies.settings import Settings

BASE = Settings(("table:x.csv",), steps=3)


def _study(measure) -> Study:
    rows = {"one": {}, "two": {"shots": 2}, "three": {"method": {"weighting": None}}}
    return Study("made-up", "?", lambda base: rows, measure, lambda base: (), lambda figure, results: None)


BENCH = Bench(Settings(()))  # without data: the studies here do not use it


def _silent(line: str) -> None:
    pass


def test_an_interrupted_study_does_the_missing_runs_only(tmp_path: Path) -> None:
    """A study interrupted in its fourth of six runs and started again does runs four to six; each run is saved once."""
    done: list[tuple[str, int]] = []

    def measure(bench: object, run: Run) -> Measured:
        done.append((run.row, run.seed))
        if len(done) == 4:
            raise KeyboardInterrupt
        return Measured({"mae": float(len(done))})

    study, path = _study(measure), tmp_path / "made-up.json"
    wanted = plan(study, BASE, seeds=2)
    with pytest.raises(KeyboardInterrupt):
        carry_out(study, BENCH, wanted, open_results(path, "made-up", BASE), path, _silent)
    assert len(load(path).runs) == 3
    carry_out(study, BENCH, wanted, open_results(path, "made-up", BASE), path, _silent)

    assert done[4:] == [("one", 1), ("two", 1), ("three", 1)]
    assert [(r.run.row, r.run.seed) for r in load(path).runs] == [(run.row, run.seed) for run in wanted]
    assert open_results(path, "made-up", BASE).missing(wanted) == []


def test_what_is_not_random_is_measured_once() -> None:
    """A row with `once` has only the first seed, the others have all three."""
    rows = {"a": {}, "fixed": {ONCE: "no seed in it"}}
    study = Study(
        "s", "?", lambda base: rows, lambda bench, run: Measured(), lambda base: (), lambda figure, results: None
    )
    runs = [(run.row, run.seed) for run in plan(study, BASE, seeds=3)]
    assert runs == [("a", 0), ("fixed", 0), ("a", 1), ("a", 2)]


def test_a_late_run_stands_in_its_place(tmp_path: Path) -> None:
    """A lost run that is done again is saved at its old position, so the table keeps its order."""
    path = tmp_path / "made-up.json"
    study = _study(lambda bench, run: Measured({"mae": 1.0}))
    wanted = plan(study, BASE, seeds=2)
    for _ in range(2):
        carry_out(study, BENCH, wanted, open_results(path, "made-up", BASE), path, _silent)
        results = load(path)
        assert [(r.run.row, r.run.seed) for r in results.runs] == [(run.row, run.seed) for run in wanted]
        del results.runs[0]
        save(results, path)


KILLED = """
import sys, time
from pathlib import Path
from numclip.research.studies.bench import Bench
from numclip.research.studies.frame import Measured, Study, carry_out, open_results, plan
from numclip.research.studies.settings import Settings
study = Study("made-up", "?", lambda b: {"one": {}, "two": {"shots": 2}, "three": {"method": {"weighting": None}}},
              lambda bench, run: time.sleep(0.3) or Measured({"mae": 1.0}), lambda b: (), lambda f, r: None)
path = Path(sys.argv[1])
base = Settings(("table:x.csv",), steps=3)
carry_out(study, Bench(Settings(())), plan(study, base, 40), open_results(path, "made-up", base), path, lambda line: None)
"""


def test_a_killed_study_leaves_a_whole_file(tmp_path: Path) -> None:
    """After SIGKILL at any moment the file is complete, has every finished run, and the study can continue."""
    path = tmp_path / "made-up.json"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (path.exists() and len(load(path).runs) >= 2):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    results = open_results(path, "made-up", BASE)
    wanted = plan(_study(lambda bench, run: Measured()), BASE, seeds=40)

    assert 2 <= len(results.runs) < len(wanted)
    assert len(results.missing(wanted)) == len(wanted) - len(results.runs)


@pytest.mark.parametrize(
    ("study", "base", "named"),
    [
        ("made-up", replace(BASE, steps=4), "steps 3"),
        ("other", BASE, "study 'made-up'"),
        ("made-up", replace(BASE, data=()), "data"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, study: str, base: Settings, named: str) -> None:
    """A file with other settings, or of another study, is an error that names the difference."""
    path = tmp_path / "made-up.json"
    save(Results("made-up", BASE), path)
    with pytest.raises(DataError, match=named):
        open_results(path, study, base)


@pytest.mark.parametrize("text", ["", "[]", '{"study": 1}', '{"study": "x", "base": {}, "versions": {}, "runs": [{}]}'])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    """A truncated file, or other JSON, is an error that names the file."""
    path = tmp_path / "made-up.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"made-up\.json: expected a study's results"):
        open_results(path, "made-up", BASE)


def test_a_file_reads_as_it_was_written(tmp_path: Path) -> None:
    """Settings, versions and runs are the same after saving and loading, with one run per line."""
    results = Results("made-up", BASE, [Record(Run("one", {}, s), Measured({"mae": float(s)})) for s in (0, 1)])
    save(results, tmp_path / "made-up.json")
    again = load(tmp_path / "made-up.json")

    assert (again.study, again.base, again.runs, again.versions) == ("made-up", BASE, results.runs, results.versions)
    lines = (tmp_path / "made-up.json").read_text().splitlines()
    assert sum(line.lstrip().startswith('{"row"') for line in lines) == 2


def test_rows_gather_seeds_and_contests() -> None:
    """Records of one row are grouped in order of first appearance; a record can hold several rows."""
    runs = [
        Record(Run("b", {}, 0), Measured({"mae": 1})),
        Record(Run("x", {}, 0), Measured(rows={"x: fast": {"ms": 1}, "x: slow": {"ms": 9}})),
        Record(Run("b", {}, 1), Measured({"mae": 3})),
    ]
    assert Results("s", BASE, runs).rows() == {
        "b": [{"mae": 1}, {"mae": 3}],
        "x: fast": [{"ms": 1}],
        "x: slow": [{"ms": 9}],
    }


def test_spread() -> None:
    """The mean and sample standard deviation of 1, 2, 3 are 2 and 1; one number has no deviation."""
    assert spread([{"a": 1}, {"a": 2}, {"a": 3}, {"b": 9}, {"a": None}], "a") == Spread(2.0, 1.0, 3)
    assert spread([{"a": 5}], "a") == Spread(5.0, None, 1)
    assert spread([{"b": 5}], "a") is None


def test_equal_runs_have_equal_keys() -> None:
    """A run's key stays the same when JSON turns tuples into lists and reorders keys."""
    run = Run("r", {"shift": (10, 0.1), "method": {"a": 1, "b": 2}}, 1)
    again = json.loads('{"method": {"b": 2, "a": 1}, "shift": [10, 0.1]}')
    assert run.key == Run("r", again, 1).key != Run("r", again, 2).key
