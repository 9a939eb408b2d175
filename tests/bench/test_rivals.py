"""Comparison networks take the model file's crops and describe themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from numclip.cli.main import main

pytest.importorskip("torch", reason="needs the extra export")
pytest.importorskip("onnx", reason="needs the extra export")

from numclip.bench.rivals import open_rival
from numclip.runtime.sessions.session import Outputs


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("eager:nano", "torch"),
        ("clip:nano", "torch"),
        ("clip-cached:nano", "torch"),
        ("onnx-tower:nano", "onnxruntime"),
        ("random:nano", "onnxruntime"),
        ("mobilenet-025", "onnxruntime"),
    ],
)
def test_rivals_answer_crops(name: str, library: str) -> None:
    """Each network gives one output per face; the work per face is reported if a call does no other work."""
    rival = open_rival(name, threads=1)
    assert rival.session["library"] == library and (rival.multiply_adds is None) == (name == "clip:nano")
    for call in (rival.open(), rival.open()):
        answer = call(np.zeros((2, rival.side, rival.side, 3), np.uint8))
        if isinstance(answer, Outputs):
            answer = answer.value
        first = np.asarray(answer[0] if isinstance(answer, (tuple, list)) else answer)
        assert len(first) == 2


def test_the_class_rivals_size() -> None:
    """MobileNet-0.25 at 112 px has about 10.6 million multiply-adds and 0.2 million weights."""
    rival = open_rival("mobilenet-025", threads=1)
    assert rival.side == 112 and rival.multiply_adds is not None
    assert rival.multiply_adds / 1e6 == pytest.approx(10.6, abs=0.3)
    assert rival.weight_bytes / 4e6 == pytest.approx(0.21, abs=0.02)


def test_cached_zero_shot_does_not_read_the_text_tower() -> None:
    """Zero-shot with cached text reads only the bytes of the image tower; without the cache, those of both towers."""
    both, image = (open_rival(name, 1).weight_bytes for name in ("clip:nano", "clip-cached:nano"))
    assert image == pytest.approx(open_rival("eager-tower:nano", 1).weight_bytes, rel=0.01) and both > image


def test_rivals_take_turns_with_models(capfd: pytest.CaptureFixture[str]) -> None:
    """One command times a model file, PyTorch and the bare tower, one row each; networks with random weights are marked."""
    names = ["age-nano", "eager:nano", "onnx-tower:nano"]
    assert main(["bench", *names, "--device", "cpu", "--seconds", "0.2", "--restarts", "1", "--json", "-"]) == 0
    rows = json.loads(capfd.readouterr().out)["rows"]
    assert [row["model"] for row in rows] == ["age-nano", *(f"{name} (random weights)" for name in names[1:])]
    assert [row["sha256"] is None for row in rows] == [False, True, True]


def test_a_random_network_in_int8() -> None:
    """`random-int8:nano` runs in a session like any model file and gives ages, with weights of a quarter of the size."""
    whole, small = open_rival("random:nano", 1), open_rival("random-int8:nano", 1)
    answers = small.open()(np.zeros((2, small.side, small.side, 3), np.uint8))
    assert isinstance(answers, Outputs) and np.isfinite(answers.value).all()
    assert small.weight_bytes < whole.weight_bytes / 3 and small.multiply_adds == whole.multiply_adds


def test_a_rival_that_is_none(capfd: pytest.CaptureFixture[str]) -> None:
    """An unknown kind is an error that lists the known kinds; CUDA without a card is an error that says what PyTorch finds."""
    assert main(["bench", "keras:nano", "--device", "cpu"]) == 2
    assert "compiled" in capfd.readouterr().err
    import torch

    if not torch.cuda.is_available():
        assert main(["bench", "eager:nano", "--device", "cuda"]) == 1
        assert "device cuda" in capfd.readouterr().err
