"""`--config FILE` reads flags from a TOML file; `--print-config` prints such a file."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError, did_you_mean

OWN = ("help", "config", "print_config")
Value = str | int | float | bool | list[str]


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the two flags that every command has."""
    parser.add_argument(
        "--config",
        metavar="FILE.toml",
        help="read flags from this TOML file, under the same names; flags on the command line override it",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print all flags and their values as a TOML file for --config, and exit",
    )
    for kind in _kinds(parser).values():
        add_config(kind)


def with_config(parser: argparse.ArgumentParser, argv: Sequence[str]) -> list[str]:
    """argv, with the flags of the --config file inserted before it; raises UsageError naming file and key."""
    words, file, inner = list(argv), _value_of("--config", argv), chosen(parser, argv)
    if file is None:
        return words
    actions = {key_of(action): action for action in options_of(inner)}
    added: list[str] = []
    for key, value in _read(file).items():
        key = key.replace("_", "-")
        action = actions.get(key)
        if action is None:
            raise UsageError(f"{file}: unknown flag {key} (--print-config lists them){did_you_mean(key, actions)}")
        if isinstance(value, dict) or not _fits(value, action):
            raise UsageError(
                f"{file}: flag {key} does not accept the value {json.dumps(value, default=str)}; see --help"
            )
        added += _as_words(action, value)
    at = 0 if inner is parser else 1 + next(i for i, word in enumerate(words) if word in _kinds(parser))
    # argparse gives every word after a list flag to it: another flag must stand before the user's own words.
    return [*words[:at], *added, f"--config={file}", *words[at:]]


def config_of(parser: argparse.ArgumentParser, argv: Sequence[str]) -> str:
    """argv as TOML, defaults included; a flag without a value or with an empty list becomes a comment."""
    inner = chosen(parser, argv)
    for action in options_of(inner):  # a config file may leave out required flags
        action.required = False
        if not action.option_strings and action.nargs in (None, "+"):
            action.nargs = "?" if action.nargs is None else "*"
    args = vars(parser.parse_args(argv))
    typed = {action: action.type for action in options_of(inner)}
    for action in typed:  # the text as typed, before conversion
        if action.type not in (int, float):
            action.type = None
    raw = vars(parser.parse_args(argv))
    for action, kind in typed.items():
        action.type = kind
    lines: list[str] = []
    for action in typed:
        value = raw[action.dest] if args[action.dest] is not None else None
        if action.const is not None and isinstance(value, bool) and not action.option_strings:
            continue
        line = f"{key_of(action)} = {_toml(value)}"
        lines.append(f"# {key_of(action)} =" if value is None or value in ([], ()) else line)
    return "\n".join(lines)


def chosen(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser that argv selects: a subcommand's own parser if argv names a subcommand."""
    kinds = _kinds(parser)
    return next((kinds[word] for word in argv if word in kinds), parser)


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments of a parser, except those that every command has and its subcommands."""
    actions = parser._actions  # pyright: ignore[reportPrivateUsage]
    return [a for a in actions if a.dest not in OWN and not isinstance(a.choices, dict)]


def key_of(action: argparse.Action) -> str:
    """The key in a config file: a flag's name without its dashes, or a positional argument's name."""
    return max(action.option_strings, key=len).lstrip("-") if action.option_strings else action.dest.replace("_", "-")


def _kinds(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:  # pyright: ignore[reportPrivateUsage]
        if isinstance(action, argparse._SubParsersAction):  # pyright: ignore[reportPrivateUsage]
            return dict(action.choices)
    return {}


def _value_of(flag: str, argv: Sequence[str]) -> str | None:
    """The last value given to a flag, as `--flag VALUE` or `--flag=VALUE`; None if the flag is absent."""
    found: str | None = None
    for word, after in zip(argv, [*argv[1:], None]):
        if word == "--":
            break
        if word == flag:
            found = after
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found


def _read(file: str) -> dict[str, object]:
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")  # tomli: the extra config
    try:
        return dict(toml.loads(Path(file).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: expected a TOML file of flags ({error}); --print-config prints one") from None


def _fits(value: object, action: argparse.Action) -> bool:
    """Whether the flag accepts a value of this TOML type: a switch takes true or false, other flags take the rest."""
    if isinstance(value, list) and not value:
        return False
    return isinstance(value, bool) == (action.nargs == 0)


def _as_words(action: argparse.Action, value: object) -> list[str]:
    """The command-line words for a value. A list becomes several words, a repeated flag, or words joined by commas."""
    values = [str(each) for each in value] if isinstance(value, list) else [str(value)]
    if not action.option_strings:
        action.default = values if action.nargs in ("*", "+") else values[0]
        action.nargs = "*" if action.nargs in ("*", "+") else "?"
        action.required = False
        return []
    flag = max(action.option_strings, key=len)
    if isinstance(value, bool):
        return [flag] if value else []
    if action.nargs in ("*", "+") or isinstance(action.nargs, int):
        return [flag, *values]
    if type(action).__name__ == "_AppendAction":
        return [f"{flag}={each}" for each in values]
    return [f"{flag}={','.join(values)}"]


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return json.dumps(str(value), ensure_ascii=False)
