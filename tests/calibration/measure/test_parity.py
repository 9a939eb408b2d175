"""Differences between model files, hand-computed, and the faces they are measured on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from numclip.calibration.data.datasets import open_data
from numclip.calibration.measure.parity import (
    Difference,
    difference,
    excess,
    faults,
    limits_for,
    precision_of,
    proof_faces,
)
from numclip.errors import ModelError
from numclip.runtime.contract.model_file import MODELS, read_spec
from numclip.runtime.contract.spec import ModelSpec
from numclip.runtime.sessions.session import Outputs

SPEC = read_spec(MODELS / "age-nano.onnx")


def outputs(values: list[float], turned: float = 0.0) -> Outputs:
    embedding = np.tile([np.cos(turned), np.sin(turned)], (len(values), 1)).astype(np.float32)
    return Outputs(np.array(values, np.float32), np.ones((len(values), 1), np.float32), embedding)


def test_by_hand() -> None:
    """Hand-computed: values 30 40 50 60 against 31 40 50 57 differ by 1 on average and 3 at most; with labels 30 40 50 60 the MAE is
    0 against 1; the embeddings are 60 degrees apart."""
    found = difference(outputs([30, 40, 50, 60], np.pi / 3), outputs([31, 40, 50, 57]), np.array([30.0, 40, 50, 60]))
    assert (found.mean, found.max, found.mae, found.mae_change, found.n) == (1, 3, 0, -1, 4)
    assert found.p99 == pytest.approx(1 + 2 * 0.97) and found.cosine == pytest.approx(0.5, abs=1e-6)


def test_not_finite_numbers_are_counted_and_never_pass() -> None:
    """A NaN and an Inf are counted, and fail whatever the limits."""
    found = difference(outputs([30, float("nan"), float("inf")]), outputs([30, 40, 50]), np.array([30.0, 40, 50]))
    assert found.not_finite == 2 and excess(found, {"max": 1e9}) == float("inf")
    assert faults(found, {"max": 1e9}, "years")[0] == "2 NaN or Inf"
    assert found.row(SPEC.task, "x", "y").max is None


@pytest.mark.parametrize(
    ("precision", "wrong"), [("fp32", {"max": 0.03}), ("fp16", {"p99": 0.6}), ("int8", {"mae_change": 0.06})]
)
def test_each_precision_has_its_limits(precision: str, wrong: dict[str, float]) -> None:
    """Differences just within the limits pass; a figure outside is named with its limit."""
    inside = Difference(mean=0.01, p99=0.015, max=0.019, mae=5, mae_change=0.01, cosine=1, not_finite=0, n=9)
    limits = limits_for(precision, SPEC.task)
    assert faults(inside, limits, "years") == [] and excess(inside, limits) <= 1
    outside = replace(inside, **wrong)
    (said,) = faults(outside, limits, "years")
    name, value = next(iter(wrong.items()))
    assert (
        name.replace("_", " ") in said
        and f"{value}" in said
        and f"{limits[name]:g}" in said
        and excess(outside, limits) > 1
    )


def test_limits_scale_with_the_task() -> None:
    """Limits scale with the range: a task of ten units has a twelfth of the limits of one of 120 years."""
    grade = replace(SPEC.task, low=0.0, high=10.0)
    assert limits_for("fp16", grade)["mean"] == pytest.approx(limits_for("fp16", SPEC.task)["mean"] / 12)
    with pytest.raises(ModelError, match=r"graph\.precision"):
        limits_for("int4", grade)


def test_precision_of_an_older_file() -> None:
    """A spec without the precision field counts as float32."""
    raw = json.loads(SPEC.to_json())
    del raw["graph"]["precision"]
    assert precision_of(ModelSpec.from_json(json.dumps(raw))) == "fp32"
    assert precision_of(replace(SPEC, graph=replace(SPEC.graph, precision="int8"))) == "int8"


def test_faces_are_spread_over_the_data(shared_data: Path, yunet_model: Path) -> None:
    """Five faces chosen from twenty include the first and the last, each with its own label."""
    whole = open_data(f"utkface:{shared_data}/data/utkface.tar").select("val")
    few = replace(whole, samples=whole.samples[:20])
    all_faces, some = proof_faces([few], SPEC, 20), proof_faces([few], SPEC, 5)
    assert (
        len(some.labels) == 5
        and (some.crops[0] == all_faces.crops[0]).all()
        and (some.crops[-1] == all_faces.crops[-1]).all()
    )
    where = [next(i for i, crop in enumerate(all_faces.crops) if (crop == c).all()) for c in some.crops]
    assert all_faces.labels[where].tolist() == some.labels.tolist()
