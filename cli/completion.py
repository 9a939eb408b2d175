"""Print the script that lets the TAB key complete commands, flags and file names in your shell.

numclip completion bash > ~/.local/share/bash-completion/completions/numclip
numclip completion zsh > ~/.zfunc/_numclip            # where fpath has ~/.zfunc
numclip completion fish > ~/.config/fish/completions/numclip.fish
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping

from ..errors import DeviceError

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip completion`."""
    parser.add_argument("shell", choices=SHELLS, help="the shell: bash, zsh or fish", metavar="SHELL")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    from .main import COMMANDS, add_command

    try:
        shtab = importlib.import_module("shtab")
    except ImportError:
        raise DeviceError(
            'the completion script needs the package shtab; run: pip install "numclip[completion]"'
        ) from None
    parser = argparse.ArgumentParser(prog="numclip")
    kinds = parser.add_subparsers(dest="command")
    for name, text in COMMANDS.items():
        command = kinds.add_parser(name, help=text)
        try:
            add_command(command, name)
        except ModuleNotFoundError:  # if a command's extra is not installed, its flags cannot be completed
            continue
    _complete_files(parser, {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY})
    print(shtab.complete(parser, shell=args.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser, kinds: Mapping[str, object]) -> None:
    """Complete arguments that take a file or folder as such, and models and sources, which may be files."""
    for action in parser._actions:  # pyright: ignore[reportPrivateUsage]
        if isinstance(action, argparse._SubParsersAction):  # pyright: ignore[reportPrivateUsage]
            for inner in action.choices.values():
                _complete_files(inner, kinds)
        elif action.nargs != 0 and action.choices is None:
            named = str(action.metavar or action.dest).upper()
            kind = "DIR" if "DIR" in named else "FILE"
            if any(word in named for word in ("DIR", "FILE", "MODEL", "SOURCE", "CHECKPOINT", "PATH", "JSON", "CLIP")):
                action.complete = kinds[kind]  # type: ignore[attr-defined]
