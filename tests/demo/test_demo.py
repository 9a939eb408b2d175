"""`numclip demo`, without YuNet: two people, one track each, and the documented files."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="the demo extra is not installed")
pytest.importorskip("skimage", reason="the demo extra is not installed")

from numclip.cli.main import main
from numclip.demo import clip as demo_clip
from numclip.demo import sheet as demo_sheet
from numclip.demo.show import read_lines

REPO = Path(__file__).resolve().parents[2]


def refuse(*_: object) -> None:
    raise AssertionError("the demo used the network")


def test_the_demo_gives_each_person_one_track(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each person's track covers at least 90 % of the frames in which the person is fully visible; the network is not used."""
    if not (REPO / "runtime/models/age-nano.onnx").is_file():
        pytest.skip("the default model runtime/models/age-nano.onnx is not there yet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NUMCLIP_YUNET", raising=False)
    monkeypatch.setenv("NUMCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(socket, "create_connection", refuse)

    assert main(["demo", "--device", "cpu"]) == 0

    results = read_lines(Path("demo.jsonl"))
    assert len(results) == demo_clip.NUM_FRAMES
    for person in demo_clip.PEOPLE:
        visible = [r for r in results if demo_clip.fully_visible(person, r["frame"])]
        tracks = Counter(f.get("track") for r in visible for f in r["faces"] if demo_sheet.person_of(f) is person)
        assert set(tracks) - {None} == {max(tracks, key=tracks.__getitem__)}
        assert max(tracks.values()) >= 0.9 * len(visible)
    out = capsys.readouterr().out
    assert "Grace Hopper" in out
    assert "Eileen Collins" in out
    assert {p.name for p in tmp_path.iterdir()} == {"clip.mp4", "demo.mp4", "demo.jsonl", "demo.png"}

    import cv2

    video = cv2.VideoCapture("demo.mp4")
    assert video.get(cv2.CAP_PROP_FRAME_WIDTH) == demo_clip.SIZE_WH[0]
    sheet = cv2.imread("demo.png")
    assert sheet is not None and sheet.shape == (744, 1472, 3)


@pytest.mark.parametrize(
    ("absent", "wanted"),
    [
        (("skimage",), "pip install scikit-image"),
        (("matplotlib", "skimage"), 'pip install "numclip[demo]"'),
        (("cv2", "onnxruntime", "matplotlib", "skimage"), 'pip install "numclip[demo]"'),
    ],
)
def test_without_its_extra_the_demo_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], absent: tuple[str, ...], wanted: str
) -> None:
    """Without its packages the demo prints one sentence with the command to run, exit code 1."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in absent else find(name, *a))

    assert main(["demo"]) == 1
    said = capsys.readouterr().err
    assert wanted in said
    assert said.count("\n") == 1
    assert "torch" not in sys.modules or "torch" not in said


def test_the_table_names_both_people_and_says_when_there_is_no_interval() -> None:
    """The table has hand-computed median and range per track."""

    def face(track: int, x: float, age: float | None) -> demo_sheet.FaceLine:
        return {"track": track, "box": [x, 100.0, x + 80, 180.0], "age": age, "low": None, "high": None}

    results: list[demo_sheet.FrameLine] = [
        {"frame": 0, "faces": [face(1, 100, 70.0), face(2, 450, 40.0)]},
        {"frame": 1, "faces": [face(1, 101, 72.0), face(2, 450, None)]},
    ]

    assert demo_sheet.table(results).splitlines() == [
        "track  person          frames  age (median)  range      interval",
        "1      Grace Hopper    2       71.0          70.0-72.0  not calibrated",
        "2      Eileen Collins  2       40.0          40.0-40.0  not calibrated",
    ]
