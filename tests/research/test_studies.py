"""`python -m numclip.research`: every study runs from flags to page on a few drawn pictures; wrong flags give one sentence."""

from __future__ import annotations

import csv
import json
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("numclip.train.torchvision_gap", reason="needs the extra train")
pytest.importorskip("sklearn", reason="needs the extra study")
pytest.importorskip("matplotlib", reason="needs the extra study")
from numclip.cli.main import main as numclip_main
from numclip.research.__main__ import main
from numclip.research.studies import made_pictures, overhead
from numclip.research.studies.carry_out import NAMES
from numclip.research.studies.frame import load
from numclip.research.studies.made_pictures import draw_objects


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two counting data sets of 60 drawings, 45 of them for training."""
    found: list[str] = []
    for name in ("one", "two"):
        folder, random = tmp_path_factory.mktemp(name), np.random.default_rng(len(name) + len(found))
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "label", "split"])
            for i in range(60):
                count = 1 + i % 20
                cv2.imwrite(str(folder / f"{i}.png"), draw_objects(count, random))
                writer.writerow([f"{i}.png", count, "val" if i % 4 == 0 else "train"])
        found.append(f"table:{folder / name}.csv")
    return found


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A separate cache, few pictures, no large tower."""
    monkeypatch.setenv("NUMCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(made_pictures, "COUNTED", 40)
    every = made_pictures.digits
    monkeypatch.setattr(made_pictures, "digits", lambda: islice(every(), 40))
    monkeypatch.setattr(overhead, "MODELS", ("nano",))
    monkeypatch.setattr(overhead, "ROUNDS", {1: 2, 3: 2})


def _flags(name: str, out: Path, *more: str) -> list[str]:
    tiny = ["--task", "count", "--steps", "2", "--seeds", "1", "--num-faces", "40", "--batch", "8", "--threads", "1"]
    return [name, "--out", str(out), *tiny, *more]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n == "overhead" else ()) for n in NAMES])
def test_every_study_runs(name: str, drawings: list[str], tmp_path: Path) -> None:
    """Each study writes JSON, page and plot; every row of the table is measured, and the plot is a readable picture."""
    assert main(_flags(name, tmp_path, "--data", *drawings)) == 0
    results = load(tmp_path / f"{name}.json")
    page = (tmp_path / f"{name}.md").read_text(encoding="utf-8")
    for row, records in results.rows().items():
        assert f"| {row} |" in page
        assert all(np.isfinite([v for v in r.values() if v is not None]).all() for r in records)
    plot = cv2.imread(str(tmp_path / f"{name}.png"))
    assert plot is not None and plot.shape[0] > 200


def test_a_finished_study_trains_nothing_and_writes_its_page_again(
    drawings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A second call does no run, writes a deleted page again, and prints the same results as JSON."""
    assert main(_flags("coarse", tmp_path, "--data", drawings[0])) == 0
    page = (tmp_path / "coarse.md").read_text()
    (tmp_path / "coarse.md").unlink()
    monkeypatch.setattr("numclip.research.studies.carry_out.Bench", None)
    capfd.readouterr()
    assert main(_flags("coarse", tmp_path, "--data", drawings[0], "--json", "-")) == 0
    printed = capfd.readouterr().out

    assert (tmp_path / "coarse.md").read_text() == page
    assert json.loads(printed)["runs"] == json.loads((tmp_path / "coarse.json").read_text())["runs"]


def test_a_trained_tower_is_trained(drawings: list[str], tmp_path: Path) -> None:
    """With --tower trained, crops go through the whole network."""
    assert main(_flags("coarse", tmp_path, "--data", drawings[0], "--tower", "trained")) == 0
    assert load(tmp_path / "coarse.json").base.tower == "trained"


@pytest.mark.parametrize(
    ("flags", "code", "sentence"),
    [
        (["los", "--data", "table:x.csv"], 2, "did you mean loss?"),
        (["loss"], 2, "expected --data"),
        (["all", "--data", "table:x.csv"], 2, "expected two or more --data sets"),
        (["loss", "--data", "table:x.csv", "--steps", "0"], 2, "expected --steps to be at least 1, got 0"),
        (["loss", "--data", "table:x.csv", "--num-faces", "0"], 2, "expected --num-faces to be at least 1, got 0"),
        (["loss", "--data", "table:nothing.csv"], 1, "does not exist"),
    ],
)
def test_a_bad_request_is_one_sentence(flags: list[str], code: int, sentence: str, tmp_path: Path, capfd) -> None:
    """A wrong name, no data, no steps, and a missing file are errors in one sentence."""
    assert main([*flags, "--out", str(tmp_path / "out")]) == code
    err = capfd.readouterr().err
    assert sentence in err and "Traceback" not in err


def test_transfer_needs_two_data_sets(drawings: list[str], tmp_path: Path, capfd) -> None:
    """The study transfer needs two data sets."""
    assert main(_flags("transfer", tmp_path, "--data", drawings[0])) == 2
    assert "expected two or more --data sets" in capfd.readouterr().err


def test_another_size_is_another_study(drawings: list[str], tmp_path: Path, capfd) -> None:
    """Results with another number of steps are neither mixed nor overwritten."""
    assert main(_flags("coarse", tmp_path, "--data", drawings[0])) == 0
    before = (tmp_path / "coarse.json").read_bytes()
    assert main([*_flags("coarse", tmp_path, "--data", drawings[0]), "--steps", "3"]) == 1
    assert "expected steps 2 as in its earlier runs, got 3" in capfd.readouterr().err
    assert (tmp_path / "coarse.json").read_bytes() == before


def test_the_command_of_earlier_versions_says_where_it_is(capfd) -> None:
    """`numclip study` prints one sentence with the new command, exit code 2."""
    assert numclip_main(["study", "loss"]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "python -m numclip.research" in said
