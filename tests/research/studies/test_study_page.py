"""A study's page: its table is correct, text by people is kept, and the committed pages agree with their JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("numclip.train.torchvision_gap", reason="needs the extra train")
from numclip.errors import OutputError
from numclip.research.studies.carry_out import NAMES, study_named
from numclip.research.studies.frame import Column, Measured, Record, Results, Run, Study, load, plan
from numclip.research.studies.page import BEGIN, END, generated, table, write_page
from numclip.research.studies.settings import Settings

DOCS = Path(__file__).resolve().parents[3] / "docs" / "studies"
BASE = Settings(("table:x.csv",), faces=None, steps=3, batch=8)
RUNS = [
    Record(Run(row, {}, seed), Measured({"mae": mae, "cs5": cs5}))
    for row, seed, mae, cs5 in [("a", 0, 7.0, 0.5), ("b", 0, 9.456, None), ("a", 1, 8.0, 0.6), ("a", 2, 9.0, 0.7)]
]
COLUMNS = (Column("mae", "MAE"), Column("cs5", "CS@5, %", 1, percent=True))
STUDY = Study("made-up", "Is it so?", lambda b: {}, lambda b, r: Measured(), lambda b: COLUMNS, lambda f, r: None)


def test_the_table_by_hand() -> None:
    """Hand-computed: 7, 8, 9 give 8.00 ± 1.00; one number has no spread; a missing measurement is a dash."""
    expected = (
        "| | MAE | CS@5, % | seeds |\n|---|---|---|---|\n| a | 8.00 ± 1.00 | 60.0 ± 10.0 | 3 |\n| b | 9.46 | - | 1 |"
    )
    assert table(Results("made-up", BASE, RUNS).rows(), COLUMNS) == expected


def test_what_people_wrote_stays(tmp_path: Path) -> None:
    """Written again with more runs, a page has the new table and keeps the text around it."""
    page = tmp_path / "made-up.md"
    write_page(page, STUDY, Results("made-up", BASE, RUNS[:1]))
    assert "| a | 7.00 | 50.0 | 1 |" in page.read_text() and "no language" not in page.read_text()
    assert "without language pre-training" in page.read_text(), "the page says that the text tower is random"
    page.write_text(page.read_text().replace("# `python", "Before.\n# `python") + "\n## What it shows\n\nNothing.\n")
    write_page(page, STUDY, Results("made-up", BASE, RUNS))
    text = page.read_text()

    assert text.startswith("Before.\n") and text.endswith("\n## What it shows\n\nNothing.\n")
    assert "| a | 8.00 ± 1.00 |" in text and "| a | 7.00 |" not in text and text.count(BEGIN) == text.count(END) == 1


def test_a_foreign_page_is_not_overwritten(tmp_path: Path) -> None:
    """A file without the markers is not overwritten."""
    (tmp_path / "made-up.md").write_text("mine")
    with pytest.raises(OutputError, match="expected the markers"):
        write_page(tmp_path / "made-up.md", STUDY, Results("made-up", BASE, RUNS))
    assert (tmp_path / "made-up.md").read_text() == "mine"


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_page_agrees_with_its_results(name: str) -> None:
    """The generated part of each committed page follows from its JSON; all runs are there, and the page has a conclusion."""
    if not (DOCS / f"{name}.json").is_file():
        pytest.skip(f"the study {name} has not been run at the size of these pages yet")
    study, results = study_named(name), load(DOCS / f"{name}.json")
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")

    assert generated(study, results) in text
    assert len(text.partition("## What it shows")[2].split()) >= 40
    assert (DOCS / f"{name}.png").is_file()
    seeds = 1 + max(record.run.seed for record in results.runs)
    assert results.missing(plan(study, results.base, seeds)) == []
    assert seeds == 3 or name == "overhead"
