"""The age gate says yes and no wrongly as rarely as it promises, and asks otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import numclip
from numclip.calibration.gate_limits import fit_gates, upper_limit
from numclip.cli import main
from numclip.errors import ModelError, UsageError
from numclip.runtime.gate import open_gate
from numclip.runtime.model_file import read_spec, resolve
from numclip.runtime.spec import TaskSpec

TASK = TaskSpec("age", "years", 0, 120, (0.0, 20.0, 100.0), ("young", "old"))


def test_limits_by_hand() -> None:
    """Of margins 1 ... 99 one in a hundred further faces exceeds 99, two exceed 98; 98 faces cannot show 1 %."""
    margins = np.arange(1.0, 100)
    assert upper_limit(margins, 0.01) == 99 and upper_limit(margins, 0.02) == 98
    assert upper_limit(margins[:98], 0.01) is None


def test_errors_are_as_promised() -> None:
    """Over 200 fits on 600 faces, of new faces under 18 at most 1 % + 0.4 are let in, and of others as many refused."""
    random = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        truth = random.uniform(8, 40, n)
        return truth + random.normal(size=n) * 4, truth

    admitted, refused = [], []
    for _ in range(200):
        values, truth = draw(600)
        yes, no = fit_gates(values, np.ones(600), truth, TASK)["18"]["0.01"]
        values, truth = draw(2000)
        admitted.append((values[truth < 18] - 18 > yes).mean())
        refused.append((values[truth >= 18] - 18 < no).mean())
    assert np.mean(admitted) <= 0.014 and np.mean(refused) <= 0.014


def test_the_shipped_gate_on_faces_not_seen(shared_data: Path, yunet_model: Path) -> None:
    """Gate 18 at 1 %: of the under-18s of both test splits at most 2.5 % get yes; of those of 25 and more over a third do."""
    from numclip.calibration.datasets import open_data
    from numclip.calibration.evaluate import predict_dataset

    model = numclip.load("age-nano", device="cpu")
    gate = open_gate(model.spec, 18, 0.01)
    answers, labels = [], []
    for kind in ("utkface", "aaf"):
        data = open_data(f"{kind}:{shared_data / 'data' / f'{kind}.tar'}").select("test")
        predictions = predict_dataset(model, data)
        answers += [gate.answer(reading) for reading in predictions.readings]
        labels += predictions.labels.tolist()
    said, truth = np.array(answers), np.array(labels)
    assert (truth < 18).sum() == 457
    assert (said[truth < 18] == "yes").mean() <= 0.025 and (said[truth >= 25] == "yes").mean() >= 0.33


def test_gate_in_the_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`run --gate 18` puts threshold, error, probability and answer beside each age."""
    cbook = pytest.importorskip("matplotlib.cbook", reason="needs the extra demo")
    path = str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    assert main(["run", path, "--detector", "haar", "--gate", "18", "--jsonl", "-"]) == 0
    (face,) = json.loads(capfd.readouterr().out)["faces"]
    assert face["gate"]["threshold"] == 18 and face["gate"]["error"] == 0.01
    assert face["gate"]["p"] > 0.9 and face["gate"]["answer"] == "yes"
    assert face["low"] < face["age"] < face["high"] and face["level"] == 0.9


def test_unknown_gates_are_refused() -> None:
    """A threshold or rate the file does not hold is refused with those it does; an uncalibrated model has none."""
    spec = read_spec(resolve("age-nano"))
    for threshold, error in ((17, 0.01), (18, 0.3)):
        with pytest.raises(UsageError, match=r"expected --gate .*18.* with --gate-error .*0\.01"):
            open_gate(spec, threshold, error)
    with pytest.raises(ModelError, match="has no gate"):
        open_gate(spec.with_calibration(None), 18, 0.01)


def test_other_tasks_have_no_gates() -> None:
    """Thresholds of age mean nothing for another task."""
    task = TaskSpec("decade", "years", 1930, 1980, (1930.0, 1950.0, 1980.0), ("early", "late"))
    assert fit_gates(np.zeros(500), np.ones(500), np.zeros(500), task) == {}
