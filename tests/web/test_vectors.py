"""The test vectors of the browser's library equal Python's current results."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any


def test_the_browsers_vectors_are_what_python_answers(repo: Path) -> None:
    """web/tests/vectors.json equals the output of tests/web/make_vectors.py; run that after a change to a contract."""
    spec = importlib.util.spec_from_file_location("make_vectors", repo / "tests" / "web" / "make_vectors.py")
    assert spec is not None and spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    stored, now = json.loads(code.FILE.read_text(encoding="utf-8")), json.loads(code.text())
    assert sorted(stored) == sorted(now)
    now["model"]["file"] = stored["model"]["file"]  # inputs, not results
    for group in stored:
        differences = list(unlike(stored[group], now[group], group))
        assert not differences, f"{differences[:3]}: run python tests/web/make_vectors.py"


def unlike(one: Any, two: Any, where: str) -> Any:
    """Return the differences of two JSON values; numbers may differ by a few units in the last place, as CPUs do."""
    if isinstance(one, float) and isinstance(two, float):
        if not math.isclose(one, two, rel_tol=1e-5, abs_tol=1e-5):
            yield f"{where}: {one} and {two}"
    elif isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        for key in one:
            yield from unlike(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for at, (a, b) in enumerate(zip(one, two, strict=True)):
            yield from unlike(a, b, f"{where}[{at}]")
    elif one != two:
        yield f"{where}: {one} and {two}"
