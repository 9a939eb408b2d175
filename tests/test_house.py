"""The guards of the house: imports point one way and never in a circle, heavy packages keep to their rooms. Each guard can fail."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
# The order of the rooms. A file imports its own room and rooms of a lower number; rooms of one number do not know each other.
RANK = {
    "errors": 0,
    "lazy": 0,
    "runtime/places": 1,
    "runtime/system": 2,
    "runtime/tables": 2,
    "runtime/contract": 3,
    "runtime/sessions": 4,
    "runtime/faces": 5,  # the face finder is a model file that a session runs
    "runtime/live": 6,
    "runtime/sinks": 7,
    "runtime": 8,  # its __init__ and the files beside the rooms
    "calibration": 9,
    "train": 10,
    "export": 11,
    "demo": 12,
    "bench": 13,
    "doctor": 13,
    "deploy": 13,
    "server": 13,
    "web": 13,
    "bulk": 13,
    "cli": 14,
    "research": 14,
}
ROOMS = sorted({room.partition("/")[0] for room in RANK} - {"errors", "lazy"})
WINGS = ("bench", "doctor", "deploy", "server", "web", "bulk")
# Where a package may be imported: files whose path starts so. Every other package may be imported anywhere.
TORCH = (
    "train/",
    "export/",
    "bench/rival",
    "research/",
    "cli/train",
)  # cli/train sets what holds for the whole process
ONLY_IN = {
    "argparse": ("cli/", "research/"),
    **dict.fromkeys(("torch", "torchvision", "open_clip", "timm", "lightning_fabric"), TORCH),
    "onnx": ("calibration/int8", "train/faces/teacher", "export/", "bench/", "research/"),
}
HEAVY = ("torch", "onnx", "tensorrt")
MOST_ANY_LINES = 130


def modules_of(root: Path) -> dict[str, Path]:
    """Every module of the package by its dotted name (`numclip` is the root), tests apart."""
    files = [*root.glob("*.py"), *(file for room in ROOMS for file in (root / room).rglob("*.py"))]
    found: dict[str, Path] = {}
    for file in sorted(files):
        parts = file.relative_to(root).with_suffix("").parts
        found[".".join(("numclip", *(parts[:-1] if parts[-1] == "__init__" else parts)))] = file
    return found


def imports_of(file: Path, root: Path) -> Iterator[str]:
    """Every import of a module, anywhere in it, as an absolute dotted name; `from a import b` gives a.b."""
    package = ("numclip", *file.relative_to(root).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            stem = "." * node.level + (f"{node.module}." if node.module else "")
            yield from (absolute(stem + alias.name, package) for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in (
            getattr(node.func, "attr", ""),
            getattr(node.func, "id", ""),
        ):
            texts = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
            yield from (absolute(str(text), package) for text in texts)


def absolute(name: str, package: tuple[str, ...]) -> str:
    """`..errors` as numclip.errors; a name without leading dots as it is."""
    tail = name.lstrip(".")
    dots = len(name) - len(tail)
    return ".".join([*package[: len(package) - dots + 1], tail]) if dots else name


def module_named(name: str, modules: dict[str, Path]) -> str | None:
    """The module that an import of `name` reads: the longest part of it that is one. None for other packages."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def room_of(file: str) -> str:
    """The room with a rank of its own that a file, relative to the root, is in; the root's __init__ stands with runtime."""
    parts = Path(file).with_suffix("").parts
    inner = "/".join(parts[:2])
    return inner if inner in RANK else parts[0] if parts[0] in RANK else "runtime"


def wrong_imports(root: Path) -> list[str]:
    """Each import that points the wrong way, and each package outside its places, as `FILE imports NAME`."""
    modules, faults = modules_of(root), list[str]()
    for file in modules.values():
        here = file.relative_to(root).as_posix()
        for name in dict.fromkeys(imports_of(file, root)):
            package, target = name.partition(".")[0], module_named(name, modules)
            if package in ONLY_IN and not here.startswith(ONLY_IN[package]):
                faults.append(f"{here} imports {package}")
            if target is not None:
                there = modules[target].relative_to(root).as_posix()
                mine, other = room_of(here), room_of(there)
                if mine != other and RANK[other] >= RANK[mine] and there != "__init__.py":
                    faults.append(f"{here} imports {there}")
    return list(dict.fromkeys(faults))


def circles(root: Path) -> list[str]:
    """Each set of files that import one another, directly or through others, as their names with commas."""
    modules = modules_of(root)
    steps = {
        name: {there for text in imports_of(file, root) if (there := module_named(text, modules)) not in (None, name)}
        for name, file in modules.items()
    }
    reached: dict[str, set[str]] = {}
    for start in modules:
        seen, open_ends = set[str](), list(steps[start])
        while open_ends:
            name = open_ends.pop()
            if name is not None and name not in seen:
                seen.add(name)
                open_ends += steps[name]
        reached[start] = seen
    rings = {frozenset(b for b in reached[a] if a in reached[b]) for a in modules if a in reached[a]}
    return sorted(", ".join(sorted(modules[n].relative_to(root).as_posix() for n in ring)) for ring in rings)


def code_lines(root: Path) -> Counter[str]:
    """Lines that are not blank, of every room."""
    lines: Counter[str] = Counter()
    for file in modules_of(root).values():
        room = file.relative_to(root).parts[0]
        if room in ROOMS:
            lines[room] += sum(bool(line.strip()) for line in file.read_text(encoding="utf-8").splitlines())
    return lines


def any_lines(root: Path) -> int:
    """Lines with the word Any."""
    texts = [file.read_text(encoding="utf-8") for file in modules_of(root).values()]
    return sum(bool(re.search(r"\bAny\b", line)) for text in texts for line in text.splitlines())


def write_house(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_imports_point_one_way() -> None:
    """Each room imports rooms of a lower rank only, nothing imports a wing or research, and packages keep to their places."""
    assert sorted(set(wrong_imports(REPO))) == []


def test_no_circle_of_imports() -> None:
    """No file imports itself through others; imports inside functions count."""
    assert sorted(set(circles(REPO))) == []


HOUSE = {
    "errors.py": "",
    "runtime/places.py": "",
    "runtime/contract/spec.py": "",
    "runtime/sessions/model.py": "",
    "runtime/faces/crops.py": "",
    "runtime/live/frames.py": "",
    "runtime/sinks/lines.py": "",
    "calibration/report.py": "",
    "train/losses.py": "",
    "export/frozen.py": "",
    "bench/card.py": "",
    "doctor/board.py": "",
    "research/overhead.py": "",
    "cli/main.py": "",
}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("errors.py", "from .runtime import places"),
        ("runtime/places.py", "from .contract import spec"),
        ("runtime/contract/a.py", "from ..sessions.model import load"),
        ("runtime/sessions/a.py", "from ..faces import crops"),
        ("runtime/faces/a.py", "from ..live.frames import Frame"),
        ("runtime/live/a.py", "from ..sinks import lines"),
        ("runtime/a.py", "from ..calibration import report"),
        ("runtime/a.py", "def f():\n    from numclip.train import losses"),
        ("runtime/a.py", "import numclip.export.frozen"),
        ("calibration/a.py", "from ..train.losses import total"),
        ("train/a.py", "from ..export.frozen import go"),
        ("export/a.py", "import importlib\ndef f():\n    importlib.import_module('..bench.card', __package__)"),
        ("doctor/a.py", "from ..bench import card"),
        ("cli/a.py", "from ..research import overhead"),
        ("research/a.py", "from ..cli.main import main"),
        ("__init__.py", "from .calibration.report import run"),
        ("runtime/a.py", "import onnx"),
        ("train/a.py", "from onnx import helper"),
        ("calibration/a.py", "import torch.nn"),
        ("bench/a.py", "def f():\n    import torch"),
        ("runtime/a.py", "import importlib\nimportlib.import_module('torch')"),
        ("runtime/a.py", "from importlib import import_module\nimport_module('torch')"),
        ("calibration/a.py", "from argparse import Namespace"),
    ],
)
def test_the_import_guard_can_fail(tmp_path: Path, file: str, text: str) -> None:
    """A planted wrong import is found, wherever in the module it stands."""
    assert len(wrong_imports(write_house(tmp_path, {**HOUSE, file: text}))) == 1


def test_the_import_guard_lets_the_right_way_pass(tmp_path: Path) -> None:
    """The allowed directions are not faults."""
    files = {
        "runtime/faces/a.py": "from ..sessions.model import load",
        "runtime/sinks/a.py": "from ..live.frames import Frame\nfrom ..faces import crops\nfrom . import lines",
        "train/a.py": "from ..runtime.contract.spec import ModelSpec\nfrom ..errors import NumclipError\nimport torch",
        "calibration/int8_graph.py": "import onnx\nfrom ..runtime.contract import spec",
        "bench/rivals.py": "import torch\nfrom ..export import frozen\nfrom .card import write",
        "runtime/b.py": "from .contract.spec import ModelSpec\nimport onnxruntime",
        "cli/bench.py": "import argparse\nfrom ..bench import card",
        "research/a.py": "import argparse\nimport numclip\nfrom ..bench import card",
    }

    assert wrong_imports(write_house(tmp_path, {**HOUSE, "__init__.py": "", **files})) == []


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"train/a.py": "from .b import f", "train/b.py": "def f():\n    from . import a"}, "train/a.py, train/b.py"),
        (
            {"runtime/a.py": "from . import b", "runtime/b.py": "from .c import x", "runtime/c.py": "from .a import y"},
            "runtime/a.py, runtime/b.py, runtime/c.py",
        ),
        (
            {
                "train/__init__.py": "if TYPE_CHECKING:\n    from .fit import train",
                "train/fit.py": "from .. import train",
            },
            "train/__init__.py, train/fit.py",
        ),
    ],
)
def test_the_circle_guard_can_fail(tmp_path: Path, files: dict[str, str], found: str) -> None:
    """A planted circle is found: of two files, of three, and through a package's own __init__."""
    assert circles(write_house(tmp_path, files)) == [found]


def test_a_chain_is_no_circle(tmp_path: Path) -> None:
    """Three files that import one another in one direction."""
    files = {"train/a.py": "from . import b, c", "train/b.py": "from .c import x", "train/c.py": "x = 1"}

    assert circles(write_house(tmp_path, files)) == []


def test_no_room_holds_more_than_a_third() -> None:
    """Of the lines of code in all rooms, research included."""
    lines = code_lines(REPO)

    assert {room: n for room, n in lines.items() if 3 * n > lines.total()} == {}


def test_the_size_guard_can_fail(tmp_path: Path) -> None:
    """Blank lines do not count: 4 of 6 lines are in train."""
    write_house(tmp_path, {"train/a.py": "a = 1\nb = 2\n\n", "train/b/c.py": "c = 3\nd = 4\n", "export/a.py": "e\nf\n"})

    assert code_lines(tmp_path) == {"train": 4, "export": 2}


def test_few_lines_say_any() -> None:
    """Contracts are typed records, so the word Any stays rare."""
    assert any_lines(REPO) < MOST_ANY_LINES


def test_any_is_counted_as_a_word(tmp_path: Path) -> None:
    """`Any` and `dict[str, Any]` count, `Anything` does not."""
    write_house(tmp_path, {"train/a.py": "from typing import Any\nAnything = 1\nx: dict[str, Any]\n"})

    assert any_lines(tmp_path) == 2


def test_no_file_has_the_name_of_what_its_package_offers() -> None:
    """`numclip.train.train` is a function on every path to it: no module of that name lies beside its package."""
    hidden: list[str] = []
    for name, file in modules_of(REPO).items():
        if file.name == "__init__.py":
            offers = getattr(importlib.import_module(name), "__all__", ())
            hidden += [f"{name}.{each}" for each in offers if f"{name}.{each}" in modules_of(REPO)]

    assert hidden == []


def test_every_command_has_its_file() -> None:
    """The overview lists no dead command."""
    from numclip.cli.main import COMMANDS

    files = {file.stem for file in (REPO / "cli").glob("*.py")} - {"__init__", "__main__", "main"}

    assert {command.replace("-", "_") for command in COMMANDS} - files == set()


RUN_A_FRAME = """
import numpy as np
import numclip
result = numclip.read(np.zeros((120, 160, 3), np.uint8))
assert not result.faces
model = numclip.load("age-nano", device="cpu")
side = model.spec.crop.side
assert len(model(np.zeros((1, side, side, 3), np.uint8))) == 1
"""


def loaded_by(code: str, stand_ins: Path, names: tuple[str, ...]) -> list[str]:
    """Run `code` in a fresh interpreter with empty packages of the heavy names first on the path: which were loaded?"""
    for name in HEAVY:
        (stand_ins / name).mkdir(exist_ok=True)
        (stand_ins / name / "__init__.py").write_text("")
    report = f"\nimport sys\nprint('LOADED', *[n for n in {names!r} if n in sys.modules])"
    path = os.pathsep.join([str(stand_ins), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.rsplit("LOADED", 1)[1].split()


def test_the_runtime_loads_nothing_heavy(tmp_path: Path) -> None:
    """Importing numclip and running a frame loads no torch, onnx or tensorrt, even where they are installed."""
    if not (REPO / "runtime/models/age-nano.onnx").is_file():
        pytest.skip("the default model runtime/models/age-nano.onnx is not there yet")

    assert loaded_by(RUN_A_FRAME, tmp_path, HEAVY) == []


def test_importing_numclip_loads_nothing_of_the_device(tmp_path: Path) -> None:
    """`import numclip` loads no package of others and not one module of ours but itself, so it is quick."""
    others = (*HEAVY, "numpy", "cv2", "onnxruntime", "av", "tqdm")
    ours = tuple(name for name in modules_of(REPO) if name != "numclip")

    assert loaded_by("import numclip", tmp_path, (*others, *ours)) == []


@pytest.mark.parametrize("name", HEAVY)
def test_the_lightness_guard_can_fail(tmp_path: Path, name: str) -> None:
    """One hidden import is enough to be found."""
    code = textwrap.dedent(f"""
        import numclip
        try:
            import {name}
        except ImportError:
            pass
    """)

    assert loaded_by(code, tmp_path, HEAVY) == [name]
