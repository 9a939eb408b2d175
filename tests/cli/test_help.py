"""The --help of every command equals the text in docs/help, so that changes show in a review. `make help` updates it."""

from __future__ import annotations

import contextlib
import io
import os
import unittest.mock
from pathlib import Path

import pytest

STORED = Path(__file__).resolve().parents[2] / "docs" / "help"
WIDTH = "100"


def help_of(verb: str | None) -> str:
    """Return the help text in a terminal of a fixed width."""
    from numclip.cli.main import main

    text = io.StringIO()
    with unittest.mock.patch.dict(os.environ, {"COLUMNS": WIDTH}), contextlib.redirect_stdout(text):
        try:
            code = main([*([verb] if verb else []), "--help"])
        except SystemExit as stopped:  # argparse's own
            code = stopped.code
    assert code in (0, None)
    return text.getvalue()


def names() -> dict[str, str | None]:
    """Return each stored file's name and its command; `numclip` is the overview."""
    from numclip.cli.main import COMMANDS

    return {"numclip": None, **{verb: verb for verb in COMMANDS}}


@pytest.mark.parametrize("name", names())
def test_the_help_is_the_stored_one(name: str) -> None:
    """The words are the same; line breaks differ between Python versions."""
    file = STORED / f"{name}.txt"
    assert file.is_file(), "store the help with: make help"

    assert help_of(names()[name]).split() == file.read_text(encoding="utf-8").split(), (
        "update the stored help with: make help"
    )


def test_nothing_else_is_stored() -> None:
    """There is no stored help of a removed command."""
    assert {file.stem for file in STORED.glob("*")} == set(names())


def test_no_help_names_a_place() -> None:
    """No help text contains a local path, for example as a default."""
    for file in STORED.glob("*.txt"):
        text = file.read_text(encoding="utf-8")
        assert str(Path.home()) not in text
        assert str(STORED.parents[1]) not in text


def refresh() -> None:
    """Store the help of every command, and remove files of removed commands."""
    STORED.mkdir(parents=True, exist_ok=True)
    for file in STORED.glob("*"):
        if file.stem not in names():
            file.unlink()
    for name, verb in names().items():
        (STORED / f"{name}.txt").write_text(help_of(verb), encoding="utf-8")


if __name__ == "__main__":
    refresh()
