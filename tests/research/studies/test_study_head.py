"""A run's recipe and its hand-computed figures."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("numclip.train.torchvision_gap", reason="needs the extra train")
from numclip.research.studies.bench import Bench  # noqa: E402
from numclip.research.studies.head import Recipe, build, equal_bins, figures  # noqa: E402
from numclip.research.studies.settings import Settings  # noqa: E402
from numclip.runtime.sessions.session import Outputs  # noqa: E402
from numclip.train.method import Method  # noqa: E402
from numclip.train.tasks_file import load_task  # noqa: E402


def test_equal_bins_by_hand() -> None:
    """Five equal bins of the ages 0 to 100 are 20 years wide and named by their ends; the rest of the task is unchanged."""
    age = load_task("age")
    task = equal_bins(age, 5)
    assert task.spec.bin_edges == (0, 20, 40, 60, 80, 100)
    assert task.spec.words[0] == "0 to 20 years" and len(set(equal_bins(age, 100).spec.words)) == 100
    assert (task.spec.low, task.spec.high, task.context) == (age.spec.low, age.spec.high, age.context)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (None, Method()),
        ({"weighting": "inside", "loss_weights": [1, 0, 1]}, Method("inside", loss_weights=(1, 0, 1))),
        ({"name": "coop"}, Method.named("coop")),
        ({"as_released": True}, Method.as_released(1.0)),
    ],
)
def test_recipes_name_methods(method: dict | None, expected: Method) -> None:
    """Plain values from a results file become the method's switches."""
    task = load_task("age")
    found = Recipe(method=method).build_method(task)
    if method == {"as_released": True}:
        expected = Method.as_released(task.released.label_offset, learns_context=task.released.learns_context)
    assert found == expected


def test_an_unknown_switch_is_refused() -> None:
    """A misspelt field of a method is an error."""
    with pytest.raises(ValueError, match="wieghting"):
        Recipe(method={"wieghting": "inside"}).build_method(load_task("age"))


def test_a_fixed_scale_and_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """`scale` sets exp(logit_scale); a method with ranks has one bin per year."""
    bench = Bench(Settings())
    monkeypatch.setattr(Bench, "_first_pictures", torch.empty(0))
    assert math.exp(build(bench, Recipe(scale=30.0)).logit_scale.item()) == pytest.approx(30, rel=1e-5)
    assert build(bench, Recipe(method={"name": "ordinalclip"})).task.spec.num_bins == 101
    assert build(bench, Recipe(bins=3)).text_bins().shape[0] == 3


def test_figures_by_hand() -> None:
    """Hand-computed: four faces, five words: errors 0, 3, 5.5 and -20; three words are right, the fourth is next to the right one."""
    task = load_task("age-morph")  # 0, 13, 19, 35, 65, 100
    labels = np.array([5.0, 15.0, 40.0, 70.0])
    probabilities = np.eye(5, dtype=np.float32)[[0, 1, 3, 3]] * 0.8 + 0.04
    outputs = Outputs(np.array([5.0, 18.0, 45.5, 50.0], np.float32), probabilities, np.zeros((4, 2), np.float32))
    found = figures(outputs, labels, task.spec, task.spec)

    assert found["mae"] == pytest.approx((0 + 3 + 5.5 + 20) / 4, abs=1e-4)
    assert found["bias"] == pytest.approx((0 + 3 + 5.5 - 20) / 4, abs=1e-4)
    assert (found["cs5"], found["exact"], found["coarse"], found["near"]) == (0.5, 0.25, 0.75, 1.0)
    assert found["mae_likeliest"] == pytest.approx((1.5 + 1 + 10 + 20) / 4), "centers 6.5, 16, 50, 50"
