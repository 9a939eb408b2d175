"""Architecture tests: imports follow the layer order without cycles, and heavy packages are imported only in their rooms.

A room is a top-level folder or one of runtime's folders. Each rule has a test that shows that it can fail.
"""

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
# The layer of each room. A file may import its own room and rooms of a lower layer, but no other room of the same layer.
RANK = {
    "errors": 0,
    "lazy": 0,
    "runtime/places": 1,
    "runtime/system": 2,
    "runtime/tables": 2,
    "runtime/contract": 3,
    "runtime/sessions": 4,
    "runtime/faces": 5,  # because a session runs the face finder's model file
    "runtime/live": 6,
    "runtime/sinks": 7,
    "runtime": 8,  # its __init__ and the files outside its rooms
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
# Path prefixes of the files that may import a package. Any other package may be imported anywhere.
TORCH = (
    "train/",
    "export/",
    "bench/rival",
    "research/",
    "cli/train",
)  # cli/train makes settings for the whole process
ONLY_IN = {
    "argparse": ("cli/", "research/"),
    **dict.fromkeys(("torch", "torchvision", "open_clip", "timm", "lightning_fabric"), TORCH),
    "onnx": ("calibration/int8", "train/faces/teacher", "export/", "bench/", "research/"),
}
HEAVY = ("torch", "onnx", "tensorrt")
MOST_ANY_LINES = 130


def modules_of(root: Path) -> dict[str, Path]:
    """Return every module of the package by dotted name (`numclip` is the root), without tests."""
    files = [*root.glob("*.py"), *(file for room in ROOMS for file in (root / room).rglob("*.py"))]
    found: dict[str, Path] = {}
    for file in sorted(files):
        parts = file.relative_to(root).with_suffix("").parts
        found[".".join(("numclip", *(parts[:-1] if parts[-1] == "__init__" else parts)))] = file
    return found


def imports_of(file: Path, root: Path) -> Iterator[str]:
    """Return all imports in a module as absolute dotted names; `from a import b` gives a.b."""
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
    """Resolve `..errors` to numclip.errors; a name without leading dots stays the same."""
    tail = name.lstrip(".")
    dots = len(name) - len(tail)
    return ".".join([*package[: len(package) - dots + 1], tail]) if dots else name


def module_named(name: str, modules: dict[str, Path]) -> str | None:
    """Return the module that an import of `name` loads: the longest prefix that is a module; None for other packages."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def room_of(file: str) -> str:
    """Return the room of a file, given relative to the root; the root's __init__ belongs to runtime."""
    parts = Path(file).with_suffix("").parts
    inner = "/".join(parts[:2])
    return inner if inner in RANK else parts[0] if parts[0] in RANK else "runtime"


def wrong_imports(root: Path) -> list[str]:
    """Return each import that violates the layer order or a package's places, as `FILE imports NAME`."""
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
    """Return each import cycle as its file names, comma-separated."""
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
    """Return the number of non-blank lines per room."""
    lines: Counter[str] = Counter()
    for file in modules_of(root).values():
        room = file.relative_to(root).parts[0]
        if room in ROOMS:
            lines[room] += sum(bool(line.strip()) for line in file.read_text(encoding="utf-8").splitlines())
    return lines


def any_lines(root: Path) -> int:
    """Return the lines with the word Any."""
    texts = [file.read_text(encoding="utf-8") for file in modules_of(root).values()]
    return sum(bool(re.search(r"\bAny\b", line)) for text in texts for line in text.splitlines())


def write_house(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_imports_point_one_way() -> None:
    """Each room imports only rooms of lower layers, nothing imports a wing or research, and packages are imported only where allowed."""
    assert sorted(set(wrong_imports(REPO))) == []


def test_no_circle_of_imports() -> None:
    """There are no import cycles, including imports inside functions."""
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
    """A planted wrong import is found, wherever it is in the module."""
    assert len(wrong_imports(write_house(tmp_path, {**HOUSE, file: text}))) == 1


def test_the_import_guard_lets_the_right_way_pass(tmp_path: Path) -> None:
    """Imports in the allowed direction are not reported."""
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
    """A planted import cycle is found: with two files, with three, and through a package's __init__."""
    assert circles(write_house(tmp_path, files)) == [found]


def test_a_chain_is_no_circle(tmp_path: Path) -> None:
    """A chain of three files is not a cycle."""
    files = {"train/a.py": "from . import b, c", "train/b.py": "from .c import x", "train/c.py": "x = 1"}

    assert circles(write_house(tmp_path, files)) == []


def test_no_room_holds_more_than_a_third() -> None:
    """No room has more than a third of the lines of code of all rooms, research included."""
    lines = code_lines(REPO)

    assert {room: n for room, n in lines.items() if 3 * n > lines.total()} == {}


def test_the_size_guard_can_fail(tmp_path: Path) -> None:
    """The size test counts non-blank lines: 4 of 6 planted lines are in train."""
    write_house(tmp_path, {"train/a.py": "a = 1\nb = 2\n\n", "train/b/c.py": "c = 3\nd = 4\n", "export/a.py": "e\nf\n"})

    assert code_lines(tmp_path) == {"train": 4, "export": 2}


def test_few_lines_say_any() -> None:
    """The word Any is rare, because contracts are typed records."""
    assert any_lines(REPO) < MOST_ANY_LINES


def test_any_is_counted_as_a_word(tmp_path: Path) -> None:
    """`Any` and `dict[str, Any]` count as the word Any, `Anything` does not."""
    write_house(tmp_path, {"train/a.py": "from typing import Any\nAnything = 1\nx: dict[str, Any]\n"})

    assert any_lines(tmp_path) == 2


def test_no_file_has_the_name_of_what_its_package_offers() -> None:
    """No module has the name of a function that its package offers, so `numclip.train.train` is always the function."""
    hidden: list[str] = []
    for name, file in modules_of(REPO).items():
        if file.name == "__init__.py":
            offers = getattr(importlib.import_module(name), "__all__", ())
            hidden += [f"{name}.{each}" for each in offers if f"{name}.{each}" in modules_of(REPO)]

    assert hidden == []


def test_every_command_has_its_file() -> None:
    """Every command in the overview has its file."""
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
    """Run `code` in a new interpreter with empty stand-ins for the heavy packages first on the path; return those loaded."""
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
    """Importing numclip and reading a frame loads no torch, onnx or tensorrt, even if they are installed."""
    if not (REPO / "runtime/models/age-nano.onnx").is_file():
        pytest.skip("the default model runtime/models/age-nano.onnx is not there yet")

    assert loaded_by(RUN_A_FRAME, tmp_path, HEAVY) == []


def test_importing_numclip_loads_nothing_of_the_device(tmp_path: Path) -> None:
    """`import numclip` loads no other package and no other module of numclip, so it is fast."""
    others = (*HEAVY, "numpy", "cv2", "onnxruntime", "av", "tqdm")
    ours = tuple(name for name in modules_of(REPO) if name != "numclip")

    assert loaded_by("import numclip", tmp_path, (*others, *ours)) == []


@pytest.mark.parametrize("name", HEAVY)
def test_the_lightness_guard_can_fail(tmp_path: Path, name: str) -> None:
    """A single hidden import is found."""
    code = textwrap.dedent(f"""
        import numclip
        try:
            import {name}
        except ImportError:
            pass
    """)

    assert loaded_by(code, tmp_path, HEAVY) == [name]
