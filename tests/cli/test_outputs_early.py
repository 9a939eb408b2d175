"""An output that cannot be written is refused before a command works for minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from numclip.cli.main import main


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "age-nano", "--data", "table:none.csv"],
        ["assure", "age-nano", "--data", "table:none.csv", "--out", "report"],
        ["bulk", "none.jpg", "--out", "ages"],
        ["calibrate", "age-nano", "--data", "table:none.csv"],
    ],
    ids=lambda words: words[0],
)
def test_a_folder_that_does_not_exist(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--json into a folder that does not exist is the first error, before the inputs, which do not exist either, are opened."""
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--json", str(tmp_path / "none" / "x.json")]) == 1
    assert "none is not a folder that exists" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_report_below_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """evaluate --report FILE/report is an error that names the file, before the data is opened."""
    (tmp_path / "file").write_text("mine")
    assert (
        main(["evaluate", "age-nano", "--data", "table:none.csv", "--report", str(tmp_path / "file" / "report")]) == 1
    )
    assert f"expected a folder, but {tmp_path / 'file'} is a file" in capsys.readouterr().err
