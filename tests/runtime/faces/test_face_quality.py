"""When a face gets no age, and the weight of a look, on hand-made faces."""

from __future__ import annotations

import numpy as np
import pytest

from numclip.runtime.contract.model_file import read_spec, resolve
from numclip.runtime.contract.readings import Reading, Readings
from numclip.runtime.faces.detect import Detections
from numclip.runtime.faces.quality import BLURRED, LEAST, disbelief, judged, quality, yaws


def _face(side: float, nose_x: float) -> Detections:
    """Make a face with level eyes, 40 px apart at y = 40; the nose tip is nose_x from their midpoint."""
    points = np.array([[[30, 40], [70, 40], [50 + nose_x, 60], [35, 80], [65, 80]]], np.float32)
    return Detections(np.array([[0, 0, side * 0.7, side]], np.float32), np.ones(1, np.float32), points)


def test_yaw_by_hand() -> None:
    """Hand-computed: the yaw is 0 for a centered nose and 0.5 for one 20 px aside with eyes 40 px apart; rotation changes nothing."""
    assert yaws(_face(100, 0))[0] == 0 and yaws(_face(100, -20))[0] == pytest.approx(0.5)
    turned = _face(100, 20)
    assert turned.landmarks is not None
    quarter = Detections(turned.boxes_xyxy, turned.scores, turned.landmarks[..., ::-1].copy())
    assert yaws(quarter)[0] == pytest.approx(0.5)
    assert yaws(Detections(turned.boxes_xyxy, turned.scores, None))[0] == 0


def test_what_is_not_looked_at() -> None:
    """A face of 23 px is `small`, one with a yaw of 0.55 is `profile`, checked in this order; other faces are read."""
    cases = [(23, 0), (24, 0), (100, 22), (100, 18), (23, 22)]
    assert [judged(_face(s, n), 24)[1][0] for s, n in cases] == ["small", None, "profile", None, "small"]


def _reading(value: float) -> Reading:
    spec = read_spec(resolve("age-nano"))
    bins = np.full((1, spec.task.num_bins), 1 / spec.task.num_bins, np.float32)
    return Reading(Readings(np.array([value], np.float32), bins, np.ones((1, 4), np.float32), spec))


def test_what_is_not_believed() -> None:
    """A reading of a blurred crop, and a value beyond the last bin edge (100 years), are rejected."""
    cases = [(30, BLURRED - 0.01), (30, BLURRED + 0.01), (101, -1.7), (100, -1.7), (0, -1.7)]
    assert [disbelief(_reading(v), s) for v, s in cases] == ["blurred", None, "range", None, None]


def test_larger_sharper_and_more_frontal_is_better() -> None:
    """The weight grows with size up to 64 px, falls with yaw from 0.15 to 0.5 and with blur, and is never 0."""
    assert judged(_face(64, 0), 24)[0][0] == judged(_face(200, 0), 24)[0][0] == 1
    assert judged(_face(32, 0), 24)[0][0] == pytest.approx(0.5) and judged(_face(64, 20), 24)[0][0] == pytest.approx(
        LEAST
    )
    assert LEAST > 0 and quality(1.0, -1.5) == 1 and quality(1.0, -2.6) == pytest.approx(LEAST)
    assert quality(0.5, -2.3) == pytest.approx(0.5 * 0.55)
