"""`numclip completion`: the shell accepts the script, and it completes words."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("shtab", reason="needs the extra completion")

from numclip.cli.main import COMMANDS, main

# What bash does at TAB: it calls the registered function with the words typed so far.
PRESS_TAB = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
function_name="$(complete -p numclip | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
"$function_name" numclip "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(script: Path, *words: str) -> set[str]:
    """Return bash's suggestions for the last word."""
    command = ["bash", "-c", PRESS_TAB, "bash", str(script), "numclip", *words]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bash script that the command prints."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    import contextlib
    import io

    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert main(["completion", "bash"]) == 0
    file = tmp_path_factory.mktemp("completion") / "numclip"
    file.write_text(text.getvalue())
    return file


def test_bash_completes(bash_script: Path) -> None:
    """bash completes commands, flags and choices."""
    assert set(COMMANDS) <= completed(bash_script, "")
    assert completed(bash_script, "ben") == {"bench"}
    assert completed(bash_script, "bench", "--sce") == {"--scenario"}
    assert completed(bash_script, "bench", "--scenario", "off") == {"offline"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_the_script(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The scripts for other shells contain every command, and the shell, if installed, parses them."""
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)
    if (program := shutil.which(shell)) is not None:
        (tmp_path / "script").write_text(text)
        subprocess.run([program, "--no-execute", str(tmp_path / "script")], check=True)
