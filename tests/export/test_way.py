"""The way of a weight is short: what one small export enters; and what it says of licences is true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("onnxscript", reason="needs the extra export")

# 132 and 10 when the face finder was a library of OpenCV; lower them when the way gets shorter
MOST_FUNCTIONS, MOST_ENTRIES = 176, 8

COUNT = """
import inspect, json, os, sys, threading

root, seen, order = os.path.realpath(sys.argv[1]), set(), []

def look(frame, event, arg):
    code = frame.f_code
    if event != "call" or code in seen:
        return
    seen.add(code)
    own = code.co_filename.startswith(root + "/") and ".venv" not in code.co_filename
    if own and code.co_flags & inspect.CO_OPTIMIZED and code.co_name[0] != "<":
        order.append((os.path.relpath(code.co_filename, root), code.co_qualname))

threading.setprofile(look)
from numclip.cli.main import main
sys.setprofile(look)
code = main(sys.argv[3:])
sys.setprofile(None)
with open(sys.argv[2], "w") as file:
    json.dump(order, file)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def exported(repo: Path, shared_data: Path, yunet_model: Path, tmp_path_factory: pytest.TempPathFactory):
    """age-nano exported with twelve faces in a table of one's own; the file, and the functions entered, in order."""
    if sys.version_info < (3, 11):
        pytest.skip("names of functions in their class are there from Python 3.11 on")
    folder = tmp_path_factory.mktemp("way")
    rows = ["file,label"]
    with tarfile.open(shared_data / "data" / "utkface.tar") as tar:
        for i, member in enumerate([m for m in tar.getmembers() if m.isfile()][:: 21302 // 12][:12]):
            file = tar.extractfile(member)
            assert file is not None
            (folder / f"{i}.jpg").write_bytes(file.read())
            rows.append(f"{i}.jpg,{Path(member.name).name.split('_')[0]}")
    (folder / "mine.csv").write_text("\n".join(rows) + "\n")
    out, count = folder / "mine.onnx", folder / "count.json"
    flags = [
        str(repo / "train/checkpoints/age-nano.safetensors"),
        "--out",
        str(out),
        "--data",
        f"table:{folder}/mine.csv",
    ]
    words = [sys.executable, "-c", COUNT, str(repo), str(count), "export", *flags]
    env = {**os.environ, "NUMCLIP_CACHE": str(folder / "cache")}
    subprocess.run(words, check=True, capture_output=True, env=env)
    return out, json.loads(count.read_text())


def test_the_way_of_a_weight_is_short(exported: tuple[Path, list[list[str]]]) -> None:
    """One small export enters few functions, and changes rooms (top-level folders) seldom."""
    _, order = exported
    rooms = Counter(room for room, _ in groupby(Path(file).parts[0] for file, _ in order))
    assert len(order) <= MOST_FUNCTIONS and max(rooms.values()) <= MOST_ENTRIES, (len(order), rooms)


def test_faces_of_ones_own_do_not_free_the_weights(exported: tuple[Path, list[list[str]]]) -> None:
    """age-nano learned from UTKFace: whatever faces proved its export, the file's licences are for research only."""
    from numclip.cli.model_screen import screen
    from numclip.runtime.info import model_info

    out, _ = exported
    info = model_info(out)
    said = " ".join(" ".join(screen(info)).split())
    assert not info.commercial_use.allowed and "data" in info.commercial_use.parts
    assert "UTKFace: non-commercial research use only" in said
    assert "table of the user's own" not in said
