"""The command line: suggestions, exit codes, and one sentence per error."""

from __future__ import annotations

import argparse
import ast
import contextlib
import re
import subprocess
import sys
import types
from importlib import metadata
from importlib.metadata import version
from pathlib import Path

import pytest

from numclip import errors
from numclip.cli import main as cli


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A command `probe` whose action a test can set."""
    module = types.ModuleType("numclip.cli.probe", "A verb for tests.")
    state = types.SimpleNamespace(action=lambda args: 0)

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--min-face", type=int, default=24, help="smallest face, px")

    module.add_arguments = add_arguments  # type: ignore[attr-defined]
    module.run = lambda args: state.action(args)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "numclip.cli.probe", module)
    monkeypatch.setitem(cli.COMMANDS, "probe", "for tests")
    return state


def raising(error: BaseException) -> object:
    def action(args: argparse.Namespace) -> int:
        raise error

    return action


def test_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the version in pyproject.toml."""
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"numclip {version('numclip')}\n"


def test_no_verb_is_an_error_and_help_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    """Both list every command."""
    assert cli.main([]) == 2
    assert cli.main(["--help"]) == 0
    assert all(f"  {name} " in capsys.readouterr().out for name in ["run"])


def test_a_wrong_verb_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    """`rnu` gets the suggestion run."""
    assert cli.main(["rnu"]) == 2
    assert "did you mean run?" in capsys.readouterr().err


def test_a_wrong_flag_gets_a_suggestion(verb: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """`--minface` gets the suggestion --min-face; abbreviations are not accepted."""
    for flag in ("--minface", "--min-fac"):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["probe", flag, "30"])
        assert stopped.value.code == 2
        assert "did you mean --min-face?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.ModelError("expected a, got b; do c"), 1, "numclip: expected a, got b; do c\n"),
        (errors.UsageError("a and b exclude each other"), 2, "numclip: a and b exclude each other\n"),
        (KeyboardInterrupt(), 130, ""),
        (OSError(28, "No space left on device", "out.mp4"), 1, "No space left on device (out.mp4)\n"),
        (ModuleNotFoundError("no", name="cv2"), 1, 'pip install "numclip[cpu]"'),
        (ModuleNotFoundError("no", name="torch.nn"), 1, 'pip install "numclip[train]"'),
        (ModuleNotFoundError("no", name="onnx"), 1, 'pip install "numclip[quantize]"'),
    ],
)
def test_each_error_has_its_code_and_one_sentence(
    verb: types.SimpleNamespace, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    """An error that the user can fix has no traceback."""
    verb.action = raising(error)

    assert cli.main(["probe"]) == code
    written = capsys.readouterr().err
    assert said in written
    assert written.count("\n") <= 1


def _requirements(extras: dict[str, list[str]], extra: str) -> set[str]:
    """The normalised names of the distributions that an extra asks for, its other extras included."""
    names: set[str] = set()
    for text in extras[extra]:
        if inner := re.match(r"numclip\[(.*)\]", text):
            names |= {name for other in inner[1].split(",") for name in _requirements(extras, other)}
        else:
            names.add(re.match(r"[\w.-]+", text)[0].lower().replace("_", "-"))  # type: ignore[index]
    return names


def _brought(names: set[str]) -> set[str]:
    """These distributions and what they require in turn, as far as they are installed."""
    found, left = set[str](), set(names)
    while left:
        name = left.pop()
        found.add(name)
        with contextlib.suppress(metadata.PackageNotFoundError):
            needed = [text for text in metadata.requires(name) or [] if "extra ==" not in text]
            left |= {re.match(r"[\w.-]+", text)[0].lower().replace("_", "-") for text in needed} - found  # type: ignore[index]
    return found


def test_every_optional_import_names_an_extra_that_brings_it(repo: Path) -> None:
    """Each package that the code imports beside its dependencies, and each requirement of an extra, leads to the sentence that names
    an extra which installs it. TensorRT has sentences of its own."""
    toml = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli", reason="needs the extra config")
    project = toml.loads((repo / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    rooms = {name.split(".")[1] for name in project["tool"]["setuptools"]["packages"] if "." in name} | {"research"}
    distributions = metadata.packages_distributions()

    def is_brought(top: str) -> bool:
        said = re.search(r"numclip\[(\w+)\]", cli.missing_package(top) or "")
        made_by = {name.lower().replace("_", "-") for name in distributions.get(top, [top])}
        return said is not None and bool(made_by & _brought(_requirements(extras, said[1])))

    own = {"numpy", "av", "tqdm", "numclip", "typing_extensions", "_typeshed"}
    files = [path for room in rooms for path in (repo / room).rglob("*.py") if "node_modules" not in path.parts]
    imported = {top for path in files for top in _imports(path)} - own - sys.stdlib_module_names
    assert {"torch", "PIL", "pyarrow", "pydantic"} < imported
    assert [top for top in sorted(imported) if not is_brought(top)] == []
    tops: dict[str, list[str]] = {}
    for top, names in distributions.items():
        for name in names:
            tops.setdefault(name.lower().replace("_", "-"), []).append(top)
    apart = ("tensorrt", "tensorrt-rtx", "docs", "dev")
    asked = {name for extra in extras if extra not in apart for name in _requirements(extras, extra)}
    installed = sorted(asked & set(tops))
    assert [name for name in installed if not any(map(is_brought, tops[name]))] == []


def _imports(path: Path) -> set[str]:
    """The top-level names of the absolute imports in a file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_a_bug_keeps_its_traceback(verb: types.SimpleNamespace) -> None:
    """A failed import of a package that no extra installs, and any other unexpected exception, shows its traceback."""
    verb.action = raising(ModuleNotFoundError("no", name="numclip.runtime.gone"))

    with pytest.raises(ModuleNotFoundError):
        cli.main(["probe"])


def test_a_reader_that_leaves_is_quiet() -> None:
    """`numclip … | head` ends without a traceback, even at interpreter exit."""
    code = (
        "import sys, types, numclip.cli.main as c\n"
        "m = types.ModuleType('numclip.flood', 'x'); m.add_arguments = lambda p: None\n"
        "m.run = lambda a: [print('x' * 1000) for _ in range(5000)] and 0\n"
        "sys.modules['numclip.cli.flood'] = m; c.COMMANDS['flood'] = 'x'; sys.exit(c.main(['flood']))"
    )
    flood = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert flood.stdout is not None
    assert flood.stderr is not None
    flood.stdout.read(10)
    flood.stdout.close()

    assert flood.wait(30) == 141
    assert flood.stderr.read() == b""
    flood.stderr.close()
