"""The guards of the house: imports point one way, the runtime stays light, names are unique. Each guard can fail."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
FOLDERS = ("runtime", "calibration", "train", "export")  # each may import only itself and those left of it
HEAVY = ("torch", "onnx", "tensorrt")
FORBIDDEN_WORDS = ("utils", "common", "helpers", "manager", "base")


def source_modules(root: Path) -> list[Path]:
    """Every module of the package, tests apart."""
    return sorted([*root.glob("*.py"), *(p for folder in FOLDERS for p in (root / folder).rglob("*.py"))])


def imported_names(path: Path, root: Path) -> list[tuple[str, ...]]:
    """Every import of a module, anywhere in it, as absolute dotted parts (`numclip` is the root)."""
    package = ("numclip", *path.relative_to(root).parent.parts)
    names: list[tuple[str, ...]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            stem = (*start, *(node.module.split(".") if node.module else ()))
            names += [(*stem, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            texts = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
            names += [tuple(str(text).split(".")) for text in texts]
    return names


def house_faults(root: Path) -> list[str]:
    """Each import that points the wrong way, and each heavy package outside its places."""
    return [
        f"{path.relative_to(root)} imports {'.'.join(name)}: {fault}"
        for path in source_modules(root)
        for name in imported_names(path, root)
        if (fault := import_fault(path.relative_to(root), name)) is not None
    ]


def import_fault(module: Path, name: tuple[str, ...]) -> str | None:
    """Why `module` may not import `name`, or None where it may."""
    folder = module.parts[0] if len(module.parts) > 1 else None
    target = name[1] if name[0] == "numclip" and len(name) > 1 else None
    if name[0] == "onnx" and folder != "export" and module != Path("calibration/int8_graph.py"):
        return "only calibration/int8_graph.py and export/ may"
    if name[0] in ("torch", "torchvision", "open_clip", "timm") and folder not in ("train", "export"):
        return "only train/ and export/ may"
    if target == "cli":
        return "only the command joins the folders"
    if target in FOLDERS:
        if folder is None:
            allowed = FOLDERS if module == Path("cli/main.py") else FOLDERS[:1]
        else:
            allowed = FOLDERS[: FOLDERS.index(folder) + 1]
        if target not in allowed:
            return f"only {' and '.join(allowed)} are allowed here"
    return None


def write_house(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_imports_point_one_way() -> None:
    """runtime <- calibration <- train <- export, and onnx in two places only."""
    assert house_faults(REPO) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("runtime/a.py", "from ..calibration import report"),
        ("runtime/a.py", "def f():\n    from numclip.train import fit"),
        ("runtime/a.py", "import numclip.export.to_onnx"),
        ("calibration/a.py", "from ..train.losses import total"),
        ("calibration/a.py", "from .. import export"),
        ("train/a.py", "from ..export.to_onnx import go"),
        ("runtime/a.py", "import onnx"),
        ("train/a.py", "from onnx import helper"),
        ("calibration/a.py", "import torch.nn"),
        ("runtime/a.py", "import importlib\nimportlib.import_module('torch')"),
        ("__init__.py", "from .calibration.evaluate import run"),
    ],
)
def test_the_import_guard_can_fail(tmp_path: Path, file: str, text: str) -> None:
    """A planted wrong import is found, wherever in the module it stands."""
    assert len(house_faults(write_house(tmp_path, {file: text}))) == 1


def test_the_import_guard_lets_the_right_way_pass(tmp_path: Path) -> None:
    """The allowed directions are not faults."""
    files = {
        "train/a.py": "from ..runtime.spec import ModelSpec\nfrom ..errors import NumclipError\nimport torch",
        "calibration/int8_graph.py": "import onnx\nfrom ..runtime import spec",
        "runtime/b.py": "from .spec import ModelSpec\nimport onnxruntime",
    }

    assert house_faults(write_house(tmp_path, files)) == []


def name_faults(root: Path) -> list[str]:
    """Module base names that occur twice or say nothing."""
    stems = [path.stem for path in source_modules(root) if path.stem != "__init__"]
    twice = [f"{stem} names two modules" for stem, n in Counter(stems).items() if n > 1]
    return twice + [f"{stem} says nothing" for stem in stems if set(stem.split("_")) & set(FORBIDDEN_WORDS)]


def test_module_names_are_unique() -> None:
    """tests/runtime/faces/test_crops.py can only mean one module."""
    assert name_faults(REPO) == []


def test_the_name_guard_can_fail(tmp_path: Path) -> None:
    """A doubled and an empty name are found."""
    write_house(tmp_path, {"runtime/faces/crops.py": "", "train/crops.py": "", "runtime/box_utils.py": ""})

    assert name_faults(tmp_path) == ["crops names two modules", "box_utils says nothing"]


def test_every_verb_has_its_module() -> None:
    """The command lists no dead verb."""
    from numclip.cli.main import COMMANDS

    missing = [command for command in COMMANDS if not (REPO / "cli" / f"{command}.py").is_file()]

    assert missing == []


RUN_A_FRAME = """
import numpy as np
import numclip
result = numclip.read(np.zeros((120, 160, 3), np.uint8))
assert result.faces == ()
model = numclip.load("age-nano", device="cpu")
side = model.spec.crop.side
assert len(model(np.zeros((1, side, side, 3), np.uint8))) == 1
"""


def heavy_loaded_by(code: str, stand_ins: Path, names: tuple[str, ...]) -> list[str]:
    """Run `code` in a fresh interpreter with empty packages of the heavy names first on the path: which were loaded?"""
    for name in HEAVY:
        (stand_ins / name).mkdir(exist_ok=True)
        (stand_ins / name / "__init__.py").write_text("")
    report = f"\nimport sys\nprint('LOADED', *[n for n in {names!r} if n in sys.modules])"
    env = {**os.environ, "PYTHONPATH": str(stand_ins)}
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.rsplit("LOADED", 1)[1].split()


def test_the_runtime_loads_nothing_heavy(tmp_path: Path) -> None:
    """Importing numclip and running a frame loads no torch, onnx or tensorrt, even where they are installed."""
    if not (REPO / "runtime/models/age-nano.onnx").is_file():
        pytest.skip("the default model runtime/models/age-nano.onnx is not there yet")

    assert heavy_loaded_by(RUN_A_FRAME, tmp_path, HEAVY) == []


def test_importing_numclip_loads_nothing_of_the_device(tmp_path: Path) -> None:
    """`import numclip` alone loads not even OpenCV or ONNX Runtime."""
    loaded = heavy_loaded_by("import numclip", tmp_path, (*HEAVY, "cv2", "onnxruntime", "av", "tqdm"))

    assert loaded == []


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

    assert heavy_loaded_by(code, tmp_path, HEAVY) == [name]


def seconds_to_import(statements: list[str], rounds: int) -> list[float]:
    """Best of `rounds` fresh interpreters per statement, taken in turn so that a busy moment hits all alike."""
    template = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
    best = [float("inf")] * len(statements)
    for _ in range(rounds):
        for at, statement in enumerate(statements):
            out = subprocess.run([sys.executable, "-c", template.format(statement)], capture_output=True, text=True)
            best[at] = min(best[at], float(out.stdout))
    return best


def test_importing_numclip_is_quick() -> None:
    """At most 1.5 times the time of `import numpy` in the same run."""
    numpy_s, numclip_s = seconds_to_import(["import numpy", "import numclip"], rounds=7)

    assert numclip_s <= 1.5 * numpy_s


def test_the_quickness_guard_can_fail() -> None:
    """An import that takes three times as long as numpy's own is found, however busy the machine is."""
    slow = "start = time.perf_counter(); import numpy; time.sleep(2 * (time.perf_counter() - start))"
    numpy_s, slow_s = seconds_to_import(["import numpy", slow], rounds=3)

    assert slow_s > 1.5 * numpy_s
