"""`numclip evaluate --report DIR` on real faces: page, JSON and plots agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from numclip.cli.main import main


def test_page_json_and_plots(shared_data: Path, yunet_model: Path, tmp_path: Path, capfd) -> None:
    """The page shows the JSON's figures, marks small groups, compares widths and names every gate; the plots are readable."""
    pytest.importorskip("matplotlib", reason="needs the extra demo")
    data = f"aaf:{shared_data / 'data' / 'aaf.tar'}"
    assert main(["evaluate", "age-nano", "--data", data, "--report", str(tmp_path / "r")]) == 0
    page = (tmp_path / "r" / "report.md").read_text(encoding="utf-8")
    got = json.loads((tmp_path / "r" / "report.json").read_text())
    assert got["n"] == 800 and f"**{got['mae']:.2f} (" in page and f"at 90% {got['coverage']['0.9']:.1%}" in page
    assert "0 to 13 (few)" in page and "gender female" in page and "rows have fewer than 100" in capfd.readouterr().out
    assert f"a single quantile for all faces would need {got['width_at_equal_coverage']['global']:.1f}" in page
    assert page.count("| 18 | ") == len([row for row in got["gates"] if row["threshold"] == 18]) > 0
    for name in ("error.png", "reliability.png", "width.png"):
        assert (tmp_path / "r" / name).read_bytes()[:4] == b"\x89PNG" and f"({name})" in page


def test_a_folder_that_cannot_be(shared_data: Path, yunet_model: Path, tmp_path: Path, capfd) -> None:
    """A file in the folder's place is an error in one sentence."""
    pytest.importorskip("matplotlib", reason="needs the extra demo")
    (tmp_path / "r").write_text("")
    data = f"aaf:{shared_data / 'data' / 'aaf.tar'}"
    assert main(["evaluate", "age-nano", "--data", data, "--report", str(tmp_path / "r")]) == 1
    assert f"cannot write {tmp_path / 'r'}" in capfd.readouterr().err
