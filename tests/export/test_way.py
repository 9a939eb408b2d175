"""A small export enters few functions and changes rooms seldom, and its licences are correct."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("onnxscript", reason="needs the extra export")
from numclip.calibration.data.datasets import open_data
from numclip.calibration.measure.kept_proof import keep_proof
from numclip.calibration.measure.parity import proof_faces
from numclip.runtime.contract.model_file import read_spec, resolve
from numclip.train.checkpoint import file_sha256

pytestmark = pytest.mark.slow
CHECKPOINT = "train/checkpoints/age-nano.safetensors"

# Maximum functions entered, and maximum entries into one room; lower them when the code gets simpler. 132 and 10 with data sets.
MOST_FUNCTIONS, MOST_ENTRIES = 71, 4  # five functions and an entry are age-nano's own network; MobileNetV2's is in timm
MOST_WITH_DATA, MOST_ENTRIES_WITH_DATA = 180, 6  # detecting and cropping faces, and opening the face finder

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
def faces(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve faces in a user's table, as DATA."""
    if sys.version_info < (3, 11):
        pytest.skip("names of functions in their class are there from Python 3.11 on")
    folder = tmp_path_factory.mktemp("faces")
    rows = ["file,label"]
    with tarfile.open(shared_data / "data" / "utkface.tar") as tar:
        for i, member in enumerate([m for m in tar.getmembers() if m.isfile()][:: 21302 // 12][:12]):
            file = tar.extractfile(member)
            assert file is not None
            (folder / f"{i}.jpg").write_bytes(file.read())
            rows.append(f"{i}.jpg,{Path(member.name).name.split('_')[0]}")
    (folder / "mine.csv").write_text("\n".join(rows) + "\n")
    return f"table:{folder}/mine.csv"


def counted_export(repo: Path, folder: Path, *flags: str) -> tuple[Path, list[list[str]]]:
    """Export age-nano into a folder; returns the file and the functions entered, in order."""
    out, count = folder / "mine.onnx", folder / "count.json"
    words = [sys.executable, "-c", COUNT, str(repo), str(count), "export", str(repo / CHECKPOINT), "--out", str(out)]
    subprocess.run([*words, *flags], check=True, capture_output=True)
    return out, json.loads(count.read_text())


def most_entries(order: list[list[str]]) -> int:
    """Return the number of entries into the most entered room (top-level folder)."""
    return max(Counter(room for room, _ in groupby(Path(file).parts[0] for file, _ in order)).values())


@pytest.fixture(scope="module")
def with_data(repo: Path, faces: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str]]]:
    """An export with the user's own faces."""
    return counted_export(repo, tmp_path_factory.mktemp("way"), "--data", faces)


def test_the_way_of_a_weight_is_short(repo: Path, faces: str, tmp_path: Path) -> None:
    """An export on the faces that a training stored enters few functions and changes rooms seldom; the spec names the faces."""
    checkpoint = repo / CHECKPOINT
    proof = proof_faces([open_data(faces)], read_spec(resolve("age-nano")), 12)
    keep_proof(file_sha256(checkpoint), proof)  # as at the end of a training
    out, order = counted_export(repo, tmp_path)
    assert len(order) <= MOST_FUNCTIONS and most_entries(order) <= MOST_ENTRIES, (len(order), order)
    spec = read_spec(out)
    row = spec.parity["fp32"]
    assert (row.n, row.faces, spec.metrics) == (12, "all of table:mine.csv", ()) and (row.max or 0) <= 0.02


def test_with_data_it_is_longer(with_data: tuple[Path, list[list[str]]]) -> None:
    """With --data, detection, cropping and measuring add functions and changes of room."""
    out, order = with_data
    assert len(order) <= MOST_WITH_DATA and most_entries(order) <= MOST_ENTRIES_WITH_DATA
    assert [(m.data, m.n) for m in read_spec(out).metrics] == [("table:mine.csv", 12)]


def test_faces_of_ones_own_do_not_free_the_weights(with_data: tuple[Path, list[list[str]]]) -> None:
    """age-nano learned from UTKFace, so the file's licences are for research only, whatever faces the export is checked on."""
    from numclip.cli.model_screen import screen
    from numclip.runtime.info import model_info

    out, _ = with_data
    info = model_info(out)
    said = " ".join(" ".join(screen(info)).split())
    assert not info.commercial_use.allowed and "data" in info.commercial_use.parts
    assert "UTKFace: non-commercial research use only" in said
    assert "table of the user's own" not in said
