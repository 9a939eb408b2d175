"""`--config FILE`: flags from a TOML file, by the same names; `--print-config` writes such a file."""

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
    """The two flags that every command has."""
    parser.add_argument(
        "--config", metavar="FILE.toml", help="take flags from a TOML file, by the same names; those typed here win"
    )
    parser.add_argument("--print-config", action="store_true", help="print the flags as such a file, and do nothing")
    for kind in _kinds(parser).values():
        add_config(kind)


def with_config(parser: argparse.ArgumentParser, argv: Sequence[str]) -> list[str]:
    """argv, with what the file named by --config says before it; raises UsageError naming file and key."""
    words, file, inner = list(argv), _value_of("--config", argv), chosen(parser, argv)
    if file is None:
        return words
    actions = {key_of(action): action for action in options_of(inner)}
    added: list[str] = []
    for key, value in _read(file).items():
        key = key.replace("_", "-")
        action = actions.get(key)
        if action is None:
            raise UsageError(f"{file}: there is no flag {key}{did_you_mean(key, actions)}")
        if isinstance(value, dict) or not _fits(value, action):
            raise UsageError(f"{file}: {key} = {json.dumps(value, default=str)} does not fit the flag; see --help")
        added += _as_words(action, value)
    at = 0 if inner is parser else 1 + next(i for i, word in enumerate(words) if word in _kinds(parser))
    return [*words[:at], *added, *words[at:]]


def config_of(parser: argparse.ArgumentParser, argv: Sequence[str]) -> str:
    """The TOML of what argv asks for, defaults included; a flag without a value or with an empty list is a comment."""
    inner = chosen(parser, argv)
    for action in options_of(inner):  # a file may leave out what a run needs
        action.required = False
        if not action.option_strings and action.nargs in (None, "+"):
            action.nargs = "?" if action.nargs is None else "*"
    args = vars(parser.parse_args(argv))
    typed = {action: action.type for action in options_of(inner)}
    for action in typed:  # as it was typed, before it was read
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
    """The parser that argv reaches: a kind's own where the command has kinds and one is named."""
    kinds = _kinds(parser)
    return next((kinds[word] for word in argv if word in kinds), parser)


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments of a parser apart from those that every command has and from its kinds."""
    actions = parser._actions  # pyright: ignore[reportPrivateUsage]
    return [a for a in actions if a.dest not in OWN and not isinstance(a.choices, dict)]


def key_of(action: argparse.Action) -> str:
    """The name in a file: the flag's without its dashes; of a positional argument its own."""
    return max(action.option_strings, key=len).lstrip("-") if action.option_strings else action.dest.replace("_", "-")


def _kinds(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:  # pyright: ignore[reportPrivateUsage]
        if isinstance(action, argparse._SubParsersAction):  # pyright: ignore[reportPrivateUsage]
            return dict(action.choices)
    return {}


def _value_of(flag: str, argv: Sequence[str]) -> str | None:
    """The last value given to a flag, as `--flag VALUE` or `--flag=VALUE`; None where it is not there."""
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
        raise UsageError(f"{file}: expected a TOML file of flags ({error}); --print-config writes one") from None


def _fits(value: object, action: argparse.Action) -> bool:
    """Whether a value of TOML's kind can be said with the flag: a switch takes true or false, the others do not."""
    if isinstance(value, list) and not value:
        return False
    return isinstance(value, bool) == (action.nargs == 0)


def _as_words(action: argparse.Action, value: object) -> list[str]:
    """What one would type for it. A list is several words, or the flag several times, or words with commas."""
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
