"""`numclip info`: a short text, complete JSON, and a licence verdict from everything that the model learned from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from numclip.cli.main import main
from numclip.cli.model_screen import WIDTH, screen
from numclip.runtime import model_info
from numclip.runtime.contract.licences import RESEARCH_ONLY, Licence, Licences, combined
from numclip.runtime.contract.measured import Band
from numclip.runtime.contract.model_file import FINDER, MODELS, graph_sha256, read_spec, shipped_models, write_spec

SHIPPED = MODELS / "age-nano.onnx"


@pytest.mark.parametrize("name", [*shipped_models(), FINDER])
def test_it_is_short(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The text has at most 30 lines of at most 110 characters (except the path), no long list of numbers, and one line on commercial
    use."""
    assert main(["info", name]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith(name) and len(rest) < 30 and max(map(len, rest)) <= WIDTH
    assert sum(line.startswith("commercial") for line in rest) == 1
    assert f"next: numclip run 0 {'--detector' if name == FINDER else '--model'} {name}" in rest[-1]


def test_what_a_person_wants_to_know(capsys: pytest.CaptureFixture[str]) -> None:
    """For the default model the text has task, errors by data set, interval, parity, size and the reason against commercial use."""
    assert main(["info", "age-nano"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        "estimates age in years, 0 to 120, from a face crop of 80 px",
        "4.95 years, 64% within 5, on 2000 faces of utkface:utkface.tar (test); by true value",
        "0-13: 1.6, 13-19: 3.8, 19-35: 4.3, 35-65: 6.6, 65+: 7.0",
        "90.6% at 90%",
        "gates at 13 (6.3%), 16 (6.4%), 18 (5.9%), 21 (4.7%), 25 (2.2%); in brackets the lowest error rate",
        "from PyTorch",
        "69 million multiply-adds for one face",
        "commercial no, because of: weights and data",
    ):
        assert words in said


def test_errors_by_band(tmp_path: Path) -> None:
    """If the spec has errors by band, they are in the line of their data set."""
    spec = read_spec(SHIPPED)
    bands = (Band(0, 13, 300, 3.21, 0.5), Band(13, None, 200, 4.04, 1.0))
    write_spec(SHIPPED, replace(spec, metrics=(replace(spec.metrics[0], bands=bands),)), tmp_path / "age.onnx")
    said = " ".join(" ".join(screen(model_info(tmp_path / "age.onnx"))).split())
    assert "on 2000 faces of utkface:utkface.tar (test); by true value 0-13: 3.2, 13+: 4.0" in said


def test_a_table_of_ones_own_does_not_wash_a_model_clean(tmp_path: Path) -> None:
    """A model trained on UTKFace, exported and calibrated with a user's table, is still for research only, with the reason. With only
    permissive parts commercial use is allowed."""
    utkface = Licence("LicenseRef-UTKFace-research", "UTKFace: non-commercial research use only")
    own, spec = Licence("CC0-1.0", "a table of the user's own"), read_spec(SHIPPED)

    def verdict(data: Licence) -> tuple[bool, list[str]]:
        made = Licences(Licence("Apache-2.0"), Licence(data.spdx, "as the training data allow"), None, data)
        write_spec(SHIPPED, replace(spec, licences=made), tmp_path / "age.onnx")
        info = model_info(tmp_path / "age.onnx")
        return info.commercial_use.allowed, [line for line in screen(info) if line.startswith("commercial")]

    assert verdict(combined([utkface, own])) == (False, ["commercial   no, because of: weights and data"])
    assert verdict(Licence(RESEARCH_ONLY))[0] is False
    allowed, (line, *_) = verdict(own)
    assert allowed and line.startswith("commercial   yes: every part has a permissive licence")


@pytest.mark.parametrize("name", ["age-nano", FINDER])
def test_a_program_reads_json(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`--json -` prints one object and nothing else; a file gets the same object."""
    assert main(["info", name, "--json", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["name"] == name and printed["graph_sha256"] == graph_sha256(MODELS / f"{name}.onnx")
    assert printed["file_bytes"] == (MODELS / f"{name}.onnx").stat().st_size
    assert set(printed["commercial_use"]) == {"allowed", "parts", "why"}
    assert main(["info", name, "--json", str(tmp_path / "info.json")]) == 0
    assert json.loads((tmp_path / "info.json").read_text()) == printed


def test_an_unknown_model_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown model is an error in one line, exit code 1."""
    assert main(["info", "age-naon"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
