"""Metrics and their intervals, hand-computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from numclip.calibration.measure.measures import Judged, gate_rates, measure, widths_at_equal_coverage
from numclip.runtime.contract.conformal_table import ConformalTable
from numclip.runtime.contract.model_file import read_spec, resolve
from numclip.runtime.contract.readings import Readings


def test_gate_rates_by_hand() -> None:
    """Hand-computed: one of two people from 14 to 17 gets yes, one of two from 18 to 21 gets no, one of two from 28 is not asked."""
    said = np.array(["yes", "yes", "ask", "no", "yes", "no", "ask", "yes"])
    got = gate_rates(said, np.array([13, 14, 17.9, 18, 21, 22, 28, 60]), 18).to_json()
    assert (got["false_accept"], got["false_reject"], got["accept"]) == (0.5, 0.5, 0.5)
    assert (got["false_accept_n"], got["false_reject_n"], got["accept_n"]) == (2, 2, 2)


def test_no_event_in_a_hundred_is_not_never() -> None:
    """0 wrong of 100 gives an upper bound of 3.6 %, 1 - 0.025^(1/100); without faces there is no rate."""
    got = gate_rates(np.full(100, "ask"), np.full(100, 15.0), 18).to_json()
    assert got["false_accept"] == 0 and got["false_accept_95"] == [0, pytest.approx(0.0362, abs=1e-4)]
    assert got["accept"] is None and got["accept_n"] == 0


def test_bootstrap_intervals_are_those_of_the_mean() -> None:
    """For 400 errors with deviation 5 the interval of the mean is +- 1.96 x 5 / 20; fewer than 100 faces are marked."""
    error = np.random.default_rng(0).normal(0, 5, 400)
    got = measure(Judged(error, np.zeros(400)))
    bias = got.bias
    assert bias.high - bias.low == pytest.approx(2 * 1.96 * 5 / 20, rel=0.1) and bias.low < bias.value < bias.high
    assert not got.few and got.coverage is None and got.to_json()["bias_95"] == [bias.low, bias.high]
    assert measure(Judged(error[:99], np.zeros(99))).few


def test_widths_at_equal_coverage_by_hand() -> None:
    """Hand-computed: intervals of 10 and 50 years cover both faces; one quantile needs +-20, 40 years each, the second cut at 0."""
    spec = read_spec(resolve("age-nano"))
    assert spec.calibration is not None
    table = ConformalTable(
        np.array([0.0, 10, 60]), np.array([0.05, 0.95]), np.array([[-5, 5], [-5, 5], [-25.0, 25]]), 1, 0
    )
    spec = spec.with_calibration(replace(spec.calibration, base_table=table))
    probabilities = np.eye(spec.task.num_bins, dtype=np.float32)[[2, 8]]
    readings = Readings(np.array([10, 60], np.float32), probabilities, np.zeros((2, 1), np.float32), spec)
    got = widths_at_equal_coverage(readings, np.array([11.0, 80.0]))
    assert got is not None and (got.ours, got.one_for_all) == (30, (30 + 40) / 2)
