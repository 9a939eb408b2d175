"""`auto` takes the fastest session that answers rightly, says why, and remembers it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numclip.runtime.contract.model_file import MODELS, read_spec, write_spec
from numclip.runtime.sessions import choice as session_choice
from numclip.runtime.sessions.choice import Candidate, choose_among, distance, limit_of, probe_crops
from numclip.runtime.sessions.model import load
from numclip.runtime.sessions.session import Outputs, open_session

SHIPPED = MODELS / "age-nano.onnx"
SPEC = read_spec(SHIPPED)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("NUMCLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Faked:
    """The shipped model with a wait before, or something added to its ages."""

    def __init__(self, device: str, wait_s: float = 0.0, added: float = 0.0) -> None:
        self.device, self._wait_s, self._added = device, wait_s, added
        self._session = open_session(SHIPPED, SPEC, "cpu", 1)

    def run(self, crops: Any) -> Outputs:
        time.sleep(self._wait_s)
        got = self._session.run(crops)
        return Outputs(got.value + np.float32(self._added), got.probabilities, got.embedding)

    def describe(self) -> dict[str, Any]:
        return {"device": self.device}


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A slow ONNX Runtime, a quick OpenVINO, and a card that is quicker still but a year off; which were opened, in order."""
    opened: list[str] = []
    made = {"cpu": (0.02, 0.0), "openvino": (0.005, 0.0), "cuda": (0.0, 1.0)}

    def fake(path: Path, spec: Any, device: str, threads: int | None) -> Faked:
        opened.append(device)
        return Faked(device, *made[device])

    monkeypatch.setattr(session_choice, "_devices_here", lambda: list(made))
    monkeypatch.setattr(session_choice, "open_session", fake)
    monkeypatch.setattr(session_choice, "OnnxSession", fake)
    return opened


def test_the_fastest_right_one(three: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The card is out because its ages are a year off, though it is fastest; of the right ones the fastest is taken; why is
    printed with every time and the difference; the session runs."""
    _, session = choose_among([(SHIPPED, SPEC)], 1)
    said = capsys.readouterr().err
    assert session.device == "openvino" and session.run(probe_crops(SPEC.crop.side, 2)).value.shape == (2,)
    assert (
        said.startswith("numclip: auto takes age-nano.onnx on openvino: fastest at 1 and 8 faces")
        and said.count("\n") == 1
    )
    assert "age-nano.onnx on cuda is off by 1 years (at most 0.02)" in said and session.describe()["chosen"] in said


def test_the_choice_is_remembered(three: list[str], cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second start opens the chosen one alone and prints nothing; other threads, or a broken memory, choose again."""
    choose_among([(SHIPPED, SPEC)], 1)
    del three[:]
    capsys.readouterr()
    _, session = choose_among([(SHIPPED, SPEC)], 1)
    assert three == ["openvino"] and capsys.readouterr().err == "" and "fastest" in session.describe()["chosen"]
    choose_among([(SHIPPED, SPEC)], 2)
    assert len(three) == 4 and len(json.loads((cache / "sessions.json").read_text())) == 2
    (cache / "sessions.json").write_text("[1")
    choose_among([(SHIPPED, SPEC)], 1)
    assert len(three) == 7


def test_one_candidate_is_not_timed(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Where only ONNX Runtime's CPU is there, nothing is probed and nothing written."""
    monkeypatch.setattr(session_choice, "_devices_here", lambda: ["cpu"])
    _, session = choose_among([(SHIPPED, SPEC)], 1)
    assert session.device == "cpu" and not cache.exists()


def test_limits_of_files() -> None:
    """A float32 file may differ by 0.02 years between libraries; an INT8 file by what its proof showed; an unproven by nothing."""
    assert limit_of(SPEC) == pytest.approx(0.02)
    int8 = replace(SPEC, graph={**SPEC.graph, "precision": "int8"}, parity={"int8": {"p99": 1.5}})
    assert limit_of(int8) == 1.5 and limit_of(replace(int8, parity={})) == 0.0
    one = Outputs(np.ones(2, np.float32), np.ones((2, 1), np.float32), np.ones((2, 1), np.float32))
    broken = Outputs(np.array([1, np.nan], np.float32), one.probabilities, one.embedding)
    assert distance(one, one) == 0 and distance(broken, one) == float("inf")


def test_the_probe_is_the_same_everywhere() -> None:
    """The pictures are fixed: their sum is a number one can check."""
    crops = probe_crops(112, 8)
    assert crops.shape == (8, 112, 112, 3) and crops.dtype == np.uint8 and (crops == probe_crops(112, 8)).all()
    assert 100 < crops.mean() < 155 and crops.std() > 30


def test_a_sibling_needs_intervals_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may mean its INT8 sibling once that is calibrated; a path means that file alone."""
    from numclip.runtime.contract import model_file

    seen: list[list[str]] = []

    def watch(files: Any, threads: int | None) -> Any:
        seen.append([path.name for path, _ in files])
        return Candidate(*files[0], "cpu"), Faked("cpu")

    monkeypatch.setattr(model_file, "MODELS", tmp_path)
    monkeypatch.setattr(session_choice, "choose_among", watch)
    for name in ("age.onnx", "age.int8.onnx"):
        (tmp_path / name).write_bytes(SHIPPED.read_bytes())
    write_spec(tmp_path / "age.int8.onnx", SPEC.with_calibration(None))
    load("age")
    write_spec(tmp_path / "age.int8.onnx", SPEC)
    load("age")
    load(tmp_path / "age.onnx")
    assert seen == [["age.onnx"], ["age.onnx", "age.int8.onnx"], ["age.onnx"]]


def test_candidates_are_named_for_people() -> None:
    """File and device."""
    assert Candidate(SHIPPED, SPEC, "cpu").name == "age-nano.onnx on cpu"
