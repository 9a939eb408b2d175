"""`--config FILE` and `--print-config`: a file sets flags, and the printed configuration is such a file."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from numclip.cli import config
from numclip.cli.main import COMMANDS, build_parser, main

if sys.version_info < (3, 11):
    pytest.importorskip("tomli", reason="needs the extra config")


def parsed(verb: str, argv: list[str]) -> argparse.Namespace:
    """Parse a command's flags, including a configuration file."""
    parser = build_parser(verb)
    return parser.parse_args(config.with_config(parser, argv))


def test_a_file_says_what_flags_say(tmp_path: Path) -> None:
    """A file sets positional, list, number and switch arguments, with dashes or underscores; typed flags override it."""
    file = tmp_path / "bench.toml"
    file.write_text(
        'models = ["age-nano", "age-small"]\nbatch = [1, 8]\nseconds = 0.5\nskip_absent = true\nthreads = 2\n'
    )
    said = parsed("bench", ["--config", str(file), "--threads", "4"])
    typed = parsed(
        "bench", ["age-nano", "age-small", "--batch", "1,8", "--seconds", "0.5", "--skip-absent", "--threads", "4"]
    )

    assert {**vars(said), "config": None} == vars(typed)


def test_a_kind_of_a_command(tmp_path: Path) -> None:
    """`deploy jetson` and `deploy triton` have their own flags; a required flag may be in the file."""
    (tmp_path / "a.toml").write_text('out = "kit"\nsource = "csi://0"\n')
    said = parsed("deploy", ["jetson", f"--config={tmp_path / 'a.toml'}"])

    assert (said.kind, said.out, said.source) == ("jetson", Path("kit"), "csi://0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("secondz = 1", "unknown flag secondz (--print-config lists them); did you mean seconds?"),
        ("seconds = true", "flag seconds does not accept the value true"),
        ("skip-absent = 3", "flag skip-absent does not accept the value 3"),
        ("seconds =", "expected a TOML file"),
        ("[bench]\nseconds = 1", "unknown flag bench"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong file is an error that names the key, exit code 2, and nothing runs."""
    (tmp_path / "a.toml").write_text(text)

    assert main(["bench", "age-nano", "--config", str(tmp_path / "a.toml")]) == 2
    written = capsys.readouterr().err
    assert said in written
    assert written.count("\n") == 1


def test_a_wrong_value_is_refused_like_a_typed_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Choices and types are checked for values in a file too."""
    (tmp_path / "a.toml").write_text('scenario = "sprint"')

    with pytest.raises(SystemExit) as stopped:
        main(["bench", "age-nano", "--config", str(tmp_path / "a.toml")])
    assert stopped.value.code == 2
    assert "sprint" in capsys.readouterr().err


def test_a_switch_is_off_where_it_is_false(tmp_path: Path) -> None:
    """`open-to-all = false` leaves the switch --open-to-all off; true turns it on."""
    for said, meant in (("false", False), ("true", True)):
        (tmp_path / "a.toml").write_text(f"open-to-all = {said}\n")
        assert parsed("serve", ["--config", str(tmp_path / "a.toml")]).open_to_all is meant


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_list_in_a_file_takes_no_words_of_the_user(verb: str, tmp_path: Path) -> None:
    """For every command and each of its list flags, words after `numclip COMMAND` stay positional if a file sets the list."""
    pytest.importorskip("torch", reason="some commands need the extras train and export")
    kind = {"deploy": ["jetson"], "audit": ["verify"]}.get(verb, [])
    actions = config.options_of(config.chosen(build_parser(verb), kind))
    free = [action for action in actions if not action.option_strings and action.choices is None]
    for action in actions:
        if not free or not action.option_strings or not (action.nargs in ("*", "+") or isinstance(action.nargs, int)):
            continue
        if action.nargs == 0:
            continue
        many = action.nargs if isinstance(action.nargs, int) else 2
        value = [str(each) for each in (list(action.choices or ()) * many or ["1"] * many)[:many]]
        file = tmp_path / "a.toml"
        file.write_text(f"{config.key_of(action)} = {json.dumps(value)}\n")
        argv = [*kind, "word", "--config", str(file), *_required(actions, action)]
        got = vars(parsed(verb, argv))
        assert "word" in (got[free[0].dest] if isinstance(got[free[0].dest], list) else [str(got[free[0].dest])])
        assert len(got[action.dest]) == many


def _required(actions: list[argparse.Action], but: argparse.Action) -> list[str]:
    """Words for the required flags."""
    required = [action for action in actions if action.option_strings and action.required and action is not but]
    return [f"{action.option_strings[-1]}={next(iter(action.choices or ['1']))}" for action in required]


@pytest.mark.parametrize("verb", COMMANDS)
def test_what_is_printed_is_such_a_file(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For every command the printed configuration, read and printed again, is the same."""
    pytest.importorskip("torch", reason="some commands need the extras train and export")
    kind = {"deploy": ["jetson"], "audit": ["verify"]}.get(verb, [])
    assert main([verb, *kind, "--print-config"]) == 0
    text = capsys.readouterr().out
    file = tmp_path / "a.toml"
    file.write_text(text)

    assert main([verb, *kind, "--config", str(file), "--print-config"]) == 0
    assert capsys.readouterr().out == text


def test_printed_values_are_those_in_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Flags are printed with their value, typed or from a file; a flag without a value is printed as a comment."""
    (tmp_path / "a.toml").write_text("restarts = 3\n")
    main(["bench", "age-nano", "--batch", "1,8", "--config", str(tmp_path / "a.toml"), "--print-config"])
    lines = capsys.readouterr().out.splitlines()

    assert {'models = ["age-nano"]', 'batch = "1,8"', "restarts = 3", "# seconds ="} <= set(lines)
