"""The age gate says yes and no wrongly as rarely as it promises, and asks otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import numclip
from numclip.calibration.data.datasets import open_data
from numclip.calibration.gate_limits import fit_gates, upper_limit
from numclip.calibration.measure.measures import GateRow, gate_answers, gate_rows
from numclip.calibration.measure.predictor import joined, predict_dataset
from numclip.calibration.measure.stress import track_readings
from numclip.cli.main import main
from numclip.errors import ModelError, UsageError
from numclip.runtime.contract.gate import TRACKS, Evidence, Gate, TrackGate, open_gate
from numclip.runtime.contract.model_file import read_spec, resolve
from numclip.runtime.contract.readings import Readings
from numclip.runtime.contract.spec import TaskSpec

TASK = TaskSpec("age", "years", 0, 120, (0.0, 20.0, 100.0), ("young", "old"))


def test_limits_by_hand() -> None:
    """Of evidence 1 ... 99 one in a hundred further faces exceeds 99, two exceed 98; 98 faces cannot show 1 %."""
    evidence = np.arange(1.0, 100)
    assert upper_limit(evidence, 0.01) == 99 and upper_limit(evidence, 0.02) == 98
    assert upper_limit(evidence[:98], 0.01) is None


def test_errors_are_as_promised() -> None:
    """Over 200 fits on 600 faces, of new faces under 18 at most 1 % + 0.4 are let in, and of others as many refused."""
    random = np.random.default_rng(0)

    def draw(n: int) -> tuple[Callable[[float], np.ndarray], np.ndarray]:
        truth = random.uniform(8, 40, n)
        values = truth + random.normal(size=n) * 4
        return lambda threshold: values - threshold, truth

    admitted, refused = [], []
    for _ in range(200):
        evidence, truth = draw(600)
        yes, no = fit_gates(evidence, truth, TASK)["18"]["0.01"]
        evidence, truth = draw(2000)
        admitted.append((evidence(18)[truth < 18] > yes).mean())
        refused.append((evidence(18)[truth >= 18] < no).mean())
    assert np.mean(admitted) <= 0.014 and np.mean(refused) <= 0.014


def test_the_shipped_gate_on_faces_not_seen(shared_data: Path, yunet_model: Path) -> None:
    """Gate 18 at 1 %: of the under-18s of both test splits at most 2.5 % get yes; of those of 25 and more over half do."""
    model = numclip.load("age-nano", device="cpu")
    parts = [predict_dataset(model, open_data(text).select("test")) for text in _both(shared_data)]
    rows = gate_rows([joined([p.readings for p in parts])], np.concatenate([p.labels for p in parts]))
    _holds_at_18(rows)


@pytest.mark.slow
def test_the_shipped_gate_over_tracks(shared_data: Path, yunet_model: Path) -> None:
    """The same after 30 looks at each face, simulated: at most 2.5 % of the 457 get yes, and over half from 25 on."""
    model = numclip.load("age-nano", device="cpu")
    parts = [
        track_readings(model, predict_dataset(model, open_data(text).select("test")).faces, 30)
        for text in _both(shared_data)
    ]
    looks = [joined([readings[i] for readings, _ in parts]) for i in range(30)]
    _holds_at_18(gate_rows(looks, np.concatenate([labels for _, labels in parts])))


def _holds_at_18(rows: list[GateRow]) -> None:
    (rates,) = [row.rates for row in rows if (row.threshold, row.error) == (18, 0.01)]
    below, clear = rates.false_accept, rates.accept
    assert below.n == 457 and below.share is not None and below.share.value <= 0.025
    assert clear.share is not None and clear.share.value >= 0.5


def _both(shared_data: Path) -> list[str]:
    return [f"{kind}:{shared_data / 'data' / f'{kind}.tar'}" for kind in ("utkface", "aaf")]


def test_answers_by_hand() -> None:
    """Limits 4 and 0: lost detail that doubles intervals moves them to 6 and -2, looks that say all alike change nothing."""
    gate = Gate(18, 0.01, 4, 0)
    said = [gate.answer(Evidence(x, x)) for x in (4.1, 4, 0, -0.1)]
    assert said == ["yes", "ask", "ask", "no"]
    assert [gate.answer(Evidence(x, x, 2)) for x in (6.1, 5.9, -1.9, -2.1)] == ["yes", "ask", "ask", "no"]
    assert gate.answer(Evidence(3.9, 3.9), looks=1000) == "ask"


def test_looks_add_up_by_their_effective_number() -> None:
    """With rho 0.25, many looks are worth four: the limits come half as far from their middle, as one mean of four would."""
    gate = Gate(18, 0.01, 4, 0, look_correlation=0.25)
    assert [gate.answer(Evidence(x, x), 10**9) for x in (3.01, 2.99, 1.01, 0.99)] == ["yes", "ask", "ask", "no"]
    assert gate.answer(Evidence(3.01, 3.01), 1) == "ask"


def _readings(logits: list[float]) -> Readings:
    """Faces whose words give these log odds to 19 years or more, an edge of the shipped model's bins."""
    spec = read_spec(resolve("age-nano"))
    p = 1 / (1 + np.exp(-np.array(logits)))
    probabilities = np.zeros((len(p), spec.task.num_bins), np.float32)
    at = spec.task.bin_edges.index(19)
    probabilities[:, at - 1], probabilities[:, at] = 1 - p, p
    return Readings(np.full(len(p), 20, np.float32), probabilities, np.zeros((len(p), 1), np.float32), spec)


def test_a_track_remembers_and_strangers_do_not() -> None:
    """Looks at track 1 are averaged and counted, a face without a track is judged alone, and memory is bounded."""
    gate, readings = TrackGate(Gate(19, 0.01, 2, -2)), _readings([6, -1, -6])
    said = [gate.look(readings[i], track) for i, track in ((0, 1), (1, 1), (2, 2), (2, 1), (1, None))]
    assert [(a.answer, a.looks) for a in said] == [("yes", 1), ("yes", 2), ("no", 1), ("ask", 3), ("ask", 1)]
    for track in range(TRACKS + 2):
        gate.look(readings[0], track)
    assert gate.look(readings[0], 0).looks == 1 and gate.look(readings[0], TRACKS).looks == 2


def test_buffer_only_makes_yes_rarer() -> None:
    """With a buffer of 6 years `yes` asks for evidence of 25, so a sure 19-year-old is asked; `no` stays as it was."""
    readings = _readings([6, -6])
    plain, buffered = (gate_answers(Gate(19, 0.01, 2, -2, buffer=buffer), [readings]).tolist() for buffer in (0, 6))
    assert plain == ["yes", "no"] and buffered == ["ask", "no"]


def test_gate_in_the_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`run --gate 18` puts threshold, error, probability, answer and looks beside each age; --buffer needs --gate."""
    cbook = pytest.importorskip("matplotlib.cbook", reason="needs the extra demo")
    path = str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    assert main(["run", path, "--detector", "haar", "--gate", "18", "--buffer", "7", "--jsonl", "-"]) == 0
    (face,) = json.loads(capfd.readouterr().out)["faces"]
    assert face["gate"]["threshold"] == 18 and face["gate"]["error"] == 0.01 and face["gate"]["looks"] == 1
    assert face["gate"]["p"] > 0.9 and face["gate"]["answer"] == "yes"
    assert face["low"] < face["age"] < face["high"] and face["level"] == 0.9
    assert main(["run", path, "--buffer", "7"]) == 2 and "expected --gate AGE" in capfd.readouterr().err


def test_unknown_gates_are_refused() -> None:
    """A threshold or rate the file does not hold is refused with those it does; an uncalibrated model has none."""
    spec = read_spec(resolve("age-nano"))
    for threshold, error in ((17, 0.01), (18, 0.3)):
        with pytest.raises(UsageError, match=r"expected --gate and --gate-error that age-nano holds \(.*18 at .*0\.01"):
            open_gate(spec, threshold, error)
    with pytest.raises(UsageError, match="expected --buffer of 0 or more years, got -1"):
        open_gate(spec, 18, 0.01, -1)
    with pytest.raises(ModelError, match="has no gate"):
        open_gate(spec.with_calibration(None), 18, 0.01)


def test_other_tasks_have_no_gates() -> None:
    """Thresholds of age mean nothing for another task."""
    task = TaskSpec("decade", "years", 1930, 1980, (1930.0, 1950.0, 1980.0), ("early", "late"))
    assert fit_gates(lambda threshold: np.zeros(500), np.zeros(500), task) == {}
