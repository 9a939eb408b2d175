"""Degraded faces and repeated looks: how well intervals and gates hold there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...runtime.contract.readings import Readings
from ...runtime.sessions.model import Model
from ..data.crop_cache import FaceCrops
from .degrade import STRESS, second_look
from .measures import GATE, Figures, GateRow, gate_rows, judge, measure
from .predictor import predict

STRESS_FACES = 500  # most faces to degrade, chosen evenly
TRACK_FACES = 300  # most faces at or above the gate's threshold with repeated looks; below it all have them


@dataclass(frozen=True)
class StressRow:
    """The figures of one kind of degraded picture."""

    name: str
    figures: Figures
    below: Figures | None  # of the faces below the gate's threshold; None: there are none

    def to_json(self) -> dict[str, object]:
        """The name, the figures, and separately those of faces below the threshold."""
        return {
            "name": self.name,
            **self.figures.to_json(),
            "below": None if self.below is None else self.below.to_json(),
        }


def stress_rows(model: Model, faces: FaceCrops) -> tuple[StressRow, ...]:
    """The usual figures per kind of degradation, and separately those of the children among the faces."""
    chosen = _evenly(np.arange(len(faces.labels)), STRESS_FACES)
    labels = faces.labels[chosen]
    young = labels < GATE[0]
    rows: list[StressRow] = []
    for name, worse in STRESS.items():
        judged = judge(predict(model, np.stack([worse(np.asarray(faces.crops[i])) for i in chosen])), labels)
        rows.append(StressRow(name, measure(judged), measure(judged.take(young)) if young.any() else None))
    return tuple(rows)


def track_rows(model: Model, faces: FaceCrops, looks: int) -> list[GateRow]:
    """The error rates of each gate after this many looks at each face, all simulated from one picture."""
    readings, labels = track_readings(model, faces, looks)
    return gate_rows(readings, labels)


def track_readings(model: Model, faces: FaceCrops, looks: int) -> tuple[list[Readings], npt.NDArray[np.float64]]:
    """This many looks at the same N faces, and their labels [N]: all faces below the gate's threshold, and some above."""
    young = faces.labels < GATE[0]
    chosen = np.sort(np.concatenate([np.flatnonzero(young), _evenly(np.flatnonzero(~young), TRACK_FACES)]))
    random = np.random.default_rng(0)
    readings = [
        predict(model, np.stack([second_look(np.asarray(faces.crops[i]), random) for i in chosen]))
        for _ in range(looks)
    ]
    return readings, faces.labels[chosen]


def _evenly(places: npt.NDArray[np.intp], most: int) -> npt.NDArray[np.intp]:
    """At most this many of the indices, evenly spread."""
    return places[np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(np.intp)]
