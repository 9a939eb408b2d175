"""`auto` chooses a library by a rule independent of the load; a library with different results is skipped and named."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from numclip.errors import DeviceError, ModelError
from numclip.runtime.contract.model_file import FINDER, MODELS, read_spec
from numclip.runtime.sessions import choice, opening
from numclip.runtime.sessions.choice import OPENVINO_FROM, choose, distance, probe_crops
from numclip.runtime.sessions.model import load
from numclip.runtime.sessions.onnx_graph import OnnxGraph
from numclip.runtime.sessions.opening import open_faces_session
from numclip.runtime.sessions.session import Array, Outputs, SessionFacts
from tests.failing_graph import write_failing_finder, write_failing_model

SHIPPED = MODELS / "age-nano.onnx"
SPEC = read_spec(SHIPPED)
LARGE = replace(SPEC, graph=replace(SPEC.graph, multiply_adds=int(OPENVINO_FROM)))


class Shifted(OnnxGraph):
    """ONNX Runtime under another name, with values that are off by some years."""

    years = 0.0

    def __init__(self, path: Path, device: str, threads: int | None) -> None:
        super().__init__(path, "cpu", threads)
        self.facts = SessionFacts("another", "1", device, threads)

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        value, *rest = super().run(feeds, outputs)
        return [value + np.float32(self.years), *rest]


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> type[Shifted]:
    """Another library in OpenVINO's place, with an adjustable error."""
    shifted = type("Shifted", (Shifted,), {})
    monkeypatch.setattr(choice, "OpenVINOGraph", shifted)
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: object())
    return shifted


def test_small_graphs_stay_in_onnxruntime(another: type[Shifted]) -> None:
    """One multiply-add below the limit, ONNX Runtime runs the graph on the CPU; at the limit OpenVINO does."""
    below = replace(SPEC, graph=replace(SPEC.graph, multiply_adds=int(OPENVINO_FROM) - 1))
    assert choose(SHIPPED, below, 1).facts.library == "onnxruntime"
    assert choose(SHIPPED, LARGE, 1).facts.library == "another"


def test_every_shipped_model_runs_in_onnxruntime_on_a_cpu() -> None:
    """Shipped models run in ONNX Runtime on a CPU, whatever else is installed."""
    for path in MODELS.glob("age-*.onnx"):
        assert choose(path, read_spec(path), 1).facts.library == "onnxruntime"


@pytest.mark.parametrize(
    ("years", "library"), [(0.019, "another"), (0.021, "onnxruntime"), (float("nan"), "onnxruntime")]
)
def test_a_library_that_answers_otherwise_is_passed_over(
    another: type[Shifted], caplog: pytest.LogCaptureFixture, years: float, library: str
) -> None:
    """A library with a mean difference up to 0.02 years is used; beyond that, or with NaN, ONNX Runtime runs and the log says why."""
    another.years = years
    with caplog.at_level(logging.WARNING):
        assert choose(SHIPPED, LARGE, 1).facts.library == library
    assert ("--device auto skips openvino: its values differ by" in caplog.text) == (library == "onnxruntime")


def test_a_library_that_does_not_start_is_passed_over(
    another: type[Shifted], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If a library does not start, the log has its error and ONNX Runtime runs."""

    def refuse(*_: object) -> None:
        raise DeviceError("it refuses")

    monkeypatch.setattr(choice, "OpenVINOGraph", refuse)
    assert choose(SHIPPED, LARGE, 1).facts.library == "onnxruntime"
    assert "--device auto skips openvino: it refuses" in caplog.text


class FailsOnCuda(OnnxGraph):
    """ONNX Runtime as on a machine with CUDA: there it opens a real graph whose run fails, on the CPU the named file."""

    failing: Path
    opened: list[FailsOnCuda]

    def __init__(self, path: Path, device: str, threads: int | None, keep_on_card: bool = False) -> None:
        super().__init__(self.failing if device == "cuda" else path, "cpu", threads)
        self.facts = replace(self.facts, device=device)
        self.opened.append(self)


@pytest.fixture
def fails_on_cuda(monkeypatch: pytest.MonkeyPatch) -> type[FailsOnCuda]:
    """CUDA starts, and its runs fail."""
    fails = type("FailsOnCuda", (FailsOnCuda,), {"opened": []})
    for module in (choice, opening):
        monkeypatch.setattr(module, "OnnxGraph", fails)
        monkeypatch.setattr(module, "offers_cuda", lambda: True)
    return fails


def test_a_library_that_fails_at_its_run_is_passed_over(
    fails_on_cuda: type[FailsOnCuda], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If CUDA starts and its first run fails, the log has its error, its session is closed, and the CPU runs: for a model and for a
    face finder."""
    fails_on_cuda.failing = write_failing_model(tmp_path / "model.onnx", SPEC)
    model = choose(SHIPPED, SPEC, 1)
    fails_on_cuda.failing = write_failing_finder(tmp_path / "finder.onnx")
    finder = open_faces_session(MODELS / f"{FINDER}.onnx", "auto", 1)

    assert (model.facts.device, finder.facts.device) == ("cpu", "cpu")
    assert caplog.text.count("--device auto skips cuda: device cuda: onnxruntime ") == 2
    assert len(finder.run(np.zeros((1, 64, 64, 3), np.uint8)).scores) == 0
    for graph in (graph for graph in fails_on_cuda.opened if graph.facts.device == "cuda"):
        with pytest.raises(ModelError, match="closed"):
            graph.run({SPEC.graph.input: probe_crops(SPEC.crop.side, 1)}, [])


def test_a_file_that_nothing_runs(fails_on_cuda: type[FailsOnCuda], tmp_path: Path) -> None:
    """If the file's run fails on the CPU too, `auto` is an error in one sentence, and every session is closed."""
    fails_on_cuda.failing = write_failing_model(tmp_path / "model.onnx", SPEC)
    with pytest.raises(ModelError, match="opened the graph but failed to run it") as caught:
        choose(fails_on_cuda.failing, SPEC, 1)
    assert "\n" not in str(caught.value)
    for graph in fails_on_cuda.opened:
        with pytest.raises(ModelError, match="closed"):
            graph.run({SPEC.graph.input: probe_crops(SPEC.crop.side, 1)}, [])


def test_two_caches_one_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model opened twice with two empty caches gives the same bits from the same file, and writes nothing to the cache."""
    crops, answers = probe_crops(SPEC.crop.side, 5), []
    for name in ("one", "two"):
        monkeypatch.setenv("NUMCLIP_CACHE", str(tmp_path / name))
        model = load("age-nano", threads=1)
        answers.append((model.path, model.session.facts, model(crops).value.tobytes()))
    assert answers[0] == answers[1] and list(tmp_path.iterdir()) == []


def test_the_distance_of_what_is_no_number() -> None:
    """The distance is infinite if a value is not finite, and 0 between equal values."""
    one = Outputs(np.ones(2, np.float32), np.ones((2, 1), np.float32), np.ones((2, 1), np.float32))
    broken = Outputs(np.array([1, np.nan], np.float32), one.probabilities, one.embedding)
    assert distance(one, one) == 0 and distance(broken, one) == float("inf")


def test_the_probe_is_the_same_everywhere() -> None:
    """The probe pictures are fixed: their sum is a known number."""
    crops = probe_crops(112, 8)
    assert crops.shape == (8, 112, 112, 3) and crops.dtype == np.uint8 and (crops == probe_crops(112, 8)).all()
    assert 100 < crops.mean() < 155 and crops.std() > 30
