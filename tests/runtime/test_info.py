"""`numclip info`: licences decide by their strictest part, and the spec is readable for people and programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from numclip.cli.main import main

pytest.importorskip("numclip.runtime.contract.model_file")

REPO = Path(__file__).resolve().parents[2]


def shipped() -> None:
    if not (REPO / "runtime/models/age-nano.onnx").is_file():
        pytest.skip("the default model runtime/models/age-nano.onnx is not there yet")


def test_a_person_reads_task_metrics_and_licences(capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped model says its task and that its weights are for research."""
    shipped()

    assert main(["info", "age-nano"]) == 0
    said = capsys.readouterr().out
    for words in ("age in years", "metrics", "parity", "licences", "commercial   no"):
        assert words in said


def test_a_program_reads_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`--json -` prints one object and nothing else; to a file it is the same object."""
    shipped()

    assert main(["info", "age-nano", "--json", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["task"]["name"] == "age"
    assert printed["commercial_use"]["allowed"] is False
    assert main(["info", "age-nano", "--json", str(tmp_path / "info.json")]) == 0
    assert json.loads((tmp_path / "info.json").read_text()) == printed


def test_an_unknown_model_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that does not exist: exit 1 and one line."""
    assert main(["info", "age-naon"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
