"""docs/first-tasks.md: each task is short and works as described; a clip stands in for the camera."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

REPO = Path(__file__).resolve().parents[1]
PAGE = (REPO / "docs/first-tasks.md").read_text(encoding="utf-8")
BLOCKS = [(tag, code) for tag, code in re.findall(r"^```(bash|python)\n(.*?)^```", PAGE, re.M | re.S)]
CAMERA = {
    "numclip run 0 ": "numclip run demo.mp4 ",
    "VideoCapture(0)": 'VideoCapture("demo.mp4")',
    "stream(0)": 'stream("demo.mp4")',
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, hopper: np.ndarray, collins: np.ndarray) -> Path:
    """A folder with the demo's clip of two people, and two photos."""
    from numclip.demo.clip import write_clip

    folder = tmp_path_factory.mktemp("place")
    write_clip(folder / "demo.mp4")
    (folder / "photos").mkdir()
    cv2.imwrite(str(folder / "photos/a.jpg"), hopper)
    cv2.imwrite(str(folder / "photos/b.jpg"), collins)
    return folder


def carry_out(number: int, place: Path, then: str = "") -> str:
    """Run block number `at` of the page as a user would; returns its output."""
    tag, code = BLOCKS[number]
    for camera, clip in CAMERA.items():
        code = code.replace(camera, clip)
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    words = ["bash", "-euc", code] if tag == "bash" else [sys.executable, "-c", code + then]
    done = subprocess.run(words, cwd=place, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_is_short() -> None:
    """The page has six blocks, each one command or at most ten lines of code."""
    assert [tag for tag, _ in BLOCKS] == ["bash", "python", "python", "python", "bash", "bash"]
    for tag, code in BLOCKS:
        lines = [line for line in code.splitlines() if line.strip()]
        assert len(lines) <= (1 if tag == "bash" else 10), code


def test_a_webcam_into_a_table(place: Path) -> None:
    """The table has rows of two people, each with an age inside its range."""
    carry_out(0, place)
    rows = list(csv.DictReader((place / "ages.csv").read_text().splitlines()))
    assert {row["track"] for row in rows} == {"1", "2"}
    read = [row for row in rows if row["age"]]
    assert len(read) > 0.9 * len(rows) and all(float(r["low"]) <= float(r["age"]) <= float(r["high"]) for r in read)
    assert set(rows[0]) >= {"time_s", "track", "x1", "y1", "x2", "y2", "age", "low", "high", "bin", "reason"}


def test_a_folder_of_pictures(place: Path) -> None:
    """Each photo gives one adult; the last line gives a picture and a table in a notebook."""
    pytest.importorskip("PIL", reason="needs pillow")
    said = carry_out(1, place, "\nprint(results[0]._repr_html_().count('<tr>'), len(results))\n").splitlines()
    assert [line.partition(" ")[0] for line in said[:2]] == ["photos/a.jpg", "photos/b.jpg"]
    for line in said[:2]:
        (age,) = json.loads(line.partition(" ")[2])
        assert 25 < age < 90
    assert said[2] == "2 2"


def test_a_capture_loop(place: Path) -> None:
    """Two people are tracked: nearly every line has a track number, an age, a range and a word."""
    lines = carry_out(2, place).splitlines()
    good = [found for line in lines if (found := re.fullmatch(r"(\d+) ([\d.]+) \(([\d.]+), ([\d.]+)\) .+", line))]
    assert {found[1] for found in good} == {"1", "2"} and len(good) > 0.9 * len(lines)


def test_people_by_age_band(place: Path) -> None:
    """The code counts two people; the command counts the faces per word."""
    assert sum(map(int, re.findall(r"'\d+s': (\d+)", carry_out(3, place)))) == 2
    carry_out(4, place)
    rows = list(csv.DictReader((place / "counts.csv").read_text().splitlines()))
    assert max(sum(int(v) for k, v in row.items() if k in WORDS) for row in rows) == 2
    assert not {"track", "x1", "age"} & set(rows[0])


def test_a_gate(place: Path) -> None:
    """Every face with an age has an answer, and none of these adults gets `no` at the end."""
    carry_out(5, place)
    faces = [
        f for line in (place / "answers.jsonl").read_text().splitlines() for f in json.loads(line).get("faces", ())
    ]
    gates = [face["gate"] for face in faces if face["age"] is not None]
    assert (
        gates and {gate["threshold"] for gate in gates} == {18} and {g["answer"] for g in gates} <= {"yes", "no", "ask"}
    )
    assert gates[-1]["answer"] != "no" and gates[-2]["answer"] != "no"


def _words() -> set[str]:
    from numclip.runtime.contract.model_file import read_spec, resolve

    return set(read_spec(resolve("age-nano")).task.words)


WORDS = _words()
