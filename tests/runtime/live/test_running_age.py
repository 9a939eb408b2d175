"""The running age of a track: it converges, has an interval, stays inside it, and detects a change of person."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numclip.runtime.contract.model_file import read_spec, resolve
from numclip.runtime.contract.readings import Reading, Readings
from numclip.runtime.contract.spec import ModelSpec
from numclip.runtime.live.running_age import CHANGE_LOOKS, RunningAge, movement, reach


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    spec = read_spec(resolve("age-nano"))
    assert spec.calibration is not None
    return spec.with_calibration(replace(spec.calibration, look_correlation=0.4))


def _look(spec: ModelSpec, value: float, direction: int = 0) -> Reading:
    """Make a look at a person of this age with a certain word; the embedding is one of the axes."""
    probabilities = np.full(spec.task.num_bins, 0.01, np.float32)
    probabilities[spec.task.bin_of(value)] = 1 - 0.01 * (spec.task.num_bins - 1)
    embedding = np.eye(1, 256, direction, dtype=np.float32)
    return Reading(Readings(np.array([value], np.float32), probabilities[None], embedding, spec, np.array([-1.7])))


def test_one_look_is_shown_as_it_is(spec: ModelSpec) -> None:
    """After one look the estimate has its value, word and interval."""
    look = _look(spec, 31.0)
    shown = RunningAge(spec).look(look, 1.0, 0.0)
    assert shown.value == pytest.approx(31.0) and shown.bin == look.bin and shown.looks == 1
    assert shown.interval(0.9) == pytest.approx(look.interval(0.9), abs=0.01)
    assert shown.at_least(25) == pytest.approx(look.at_least(25), abs=0.01)


def test_it_settles_in_ten_looks(spec: ModelSpec) -> None:
    """With looks that scatter by 4 years around 40, the estimate after ten looks scatters by less than 2 years, over 200 people."""
    random = np.random.default_rng(0)
    ends: list[float] = []
    for _ in range(200):
        age = RunningAge(spec)
        shown = [age.look(_look(spec, 40 + random.normal(0, 4)), 1.0, 0.1 * i).value for i in range(10)]
        ends.append(shown[-1])
    assert np.std(ends) < 2 and abs(np.mean(ends) - 40) < 0.5


def test_the_interval_shrinks_to_what_all_looks_share(spec: ModelSpec) -> None:
    """With rho = 0.4, n equal looks shrink the interval by sqrt(0.4 + 0.6 / n): 0.837 after 2, 0.678 after 10; without a measured
    rho it does not shrink."""
    age, unknown = RunningAge(spec), RunningAge(_without_rho(spec))
    shown = [age.look(_look(spec, 30.0), 1.0, 0.0) for _ in range(10)]
    assert shown[1].shrink == pytest.approx(0.8367, abs=1e-3) and shown[9].shrink == pytest.approx(0.6782, abs=1e-3)
    assert {unknown.look(_look(spec, 30.0), 1.0, 0.0).shrink for _ in range(10)} == {1.0}
    wide, narrow = (x.interval(0.9) for x in (shown[0], shown[9]))
    assert (narrow[1] - narrow[0]) == pytest.approx(0.6782 * (wide[1] - wide[0]), rel=0.01)


def _without_rho(spec: ModelSpec) -> ModelSpec:
    """Return a spec without look_correlation in its JSON."""
    raw = json.loads(spec.to_json())
    del raw["calibration"]["look_correlation"]
    return ModelSpec.from_json(json.dumps(raw))


def test_a_better_look_weighs_more(spec: ModelSpec) -> None:
    """With looks of 30 (weight 0.1) and 34 (weight 1), the estimate is near 34."""
    age = RunningAge(spec)
    age.look(_look(spec, 30.0), 0.1, 0.0)
    assert age.look(_look(spec, 34.0), 1.0, 0.1).value > 33


def test_another_person_is_followed_within_fifteen_looks(spec: ModelSpec) -> None:
    """After 50 looks at 25, then looks at 60 in the same box, the estimate is within 2 years of 60 in 15 looks and counts 2 people."""
    random, age = np.random.default_rng(1), RunningAge(spec)
    for i in range(50):
        age.look(_look(spec, 25 + random.normal(0, 2)), 1.0, 0.1 * i)
    looks = [_look(spec, 60 + random.normal(0, 2), direction=1) for _ in range(15)]
    shown = [age.look(look, 1.0, 5 + 0.1 * i).value for i, look in enumerate(looks)]
    assert abs(shown[-1] - 60) < 2 and age.people == 2


def test_a_few_wrong_looks_are_no_other_person(spec: ModelSpec) -> None:
    """CHANGE_LOOKS - 1 looks at 60 between looks at 25 move the estimate by less than 3 years and count as one person."""
    age = RunningAge(spec)
    for i in range(30):
        age.look(_look(spec, 25.0), 1.0, 0.1 * i)
    values = [age.look(_look(spec, 60.0, direction=1), 1.0, 3 + 0.1 * i).value for i in range(CHANGE_LOOKS - 1)]
    values += [age.look(_look(spec, 25.0), 1.0, 4 + 0.1 * i).value for i in range(5)]
    assert max(values) < 28 and age.people == 1


@given(
    st.lists(st.tuples(st.floats(0, 99), st.floats(0.01, 1), st.integers(0, 3)), min_size=2, max_size=40),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_it_never_moves_out_of_its_interval(looks: list[tuple[float, float, int]], calibrated: bool) -> None:
    """The next estimate always lies inside the interval of the previous one, unless the person changed."""
    spec = read_spec(resolve("age-nano"))
    spec = spec if calibrated else replace(spec, calibration=None)
    age, before, people = RunningAge(spec), None, 0
    for i, (value, quality, direction) in enumerate(looks):
        shown = age.look(_look(spec, value, direction), quality, 0.1 * i)
        if before is not None and age.people == people:
            low, high = reach(before)
            assert low - 1e-3 <= shown.value <= high + 1e-3
        assert spec.task.low - 1e-3 <= shown.value <= spec.task.high + 1e-3
        assert shown.probabilities.sum() == pytest.approx(1, abs=1e-3)
        before, people = shown, age.people


def test_movement_by_hand() -> None:
    """Hand-computed: 30, 31, 30, 32 at one per second move by 4 years in 3 s; one value or none does not move."""
    assert movement([0, 1, 2, 3], [30, 31, 30, 32]) == pytest.approx(4 / 3)
    assert movement([0], [30]) == movement([], []) == 0
