"""Every verb's --help, as stored in docs/help: a changed flag is seen in a review. `make help` stores it anew."""

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
    """The text a person sees, in a terminal of a known width."""
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
    """Each stored file's name and its verb; `numclip` is the overview."""
    from numclip.cli.main import COMMANDS

    return {"numclip": None, **{verb: verb for verb in COMMANDS}}


@pytest.mark.parametrize("name", names())
def test_the_help_is_the_stored_one(name: str) -> None:
    """Word for word; Python's releases break its lines at other places."""
    file = STORED / f"{name}.txt"
    assert file.is_file(), "store it with: make help"

    assert help_of(names()[name]).split() == file.read_text(encoding="utf-8").split(), "store it anew with: make help"


def test_nothing_else_is_stored() -> None:
    """A verb that is gone has no help left."""
    assert {file.stem for file in STORED.glob("*")} == set(names())


def test_no_help_names_a_place() -> None:
    """A default that depends on the machine would be stored with it."""
    for file in STORED.glob("*.txt"):
        text = file.read_text(encoding="utf-8")
        assert str(Path.home()) not in text
        assert str(STORED.parents[1]) not in text


def refresh() -> None:
    """Store every verb's help, and remove what belongs to none."""
    STORED.mkdir(parents=True, exist_ok=True)
    for file in STORED.glob("*"):
        if file.stem not in names():
            file.unlink()
    for name, verb in names().items():
        (STORED / f"{name}.txt").write_text(help_of(verb), encoding="utf-8")


if __name__ == "__main__":
    refresh()
