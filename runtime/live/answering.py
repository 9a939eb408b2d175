"""The second stage: one model call for all crops, and the state of each person after it.

People, their running ages and the gate belong to this stage and its thread. It receives frozen `Sight` records, and sends
`Feedback` records to the first stage.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..contract.gate import Answer, Gate, TrackGate
from ..contract.readings import Reading
from ..contract.sharpness import sharpness
from ..faces.quality import disbelief, quality
from ..sessions.model import Model
from .results import Face, FrameResult
from .running_age import RunningAge
from .sight import Feedback, Sight
from .stage_clock import StageClock

PEOPLE_PER_TRACK = 1_000_000  # an upper limit, so that one number identifies a person for the gate
WAITING = "waiting"  # the reason before the first look
_Look = tuple[Reading, float]  # the reading, and the crop's sharpness


@dataclass(eq=False)
class Person:
    """The state of the person behind a track."""

    age: RunningAge
    reason: str | None = None  # why the last reading was rejected
    answer: Answer | None = None  # the gate's latest answer


class People:
    """The people of one source, by track."""

    def __init__(self, gate: Gate | None) -> None:
        self._people: dict[int, Person] = {}
        self._gate = None if gate is None else TrackGate(gate)

    def at(self, track_id: int, sight: Sight, model: Model) -> Person:
        """The person behind a track; people whose track has ended are removed when a new one appears."""
        if track_id not in self._people:
            self._people = {i: person for i, person in self._people.items() if i in sight.alive}
            self._people[track_id] = Person(RunningAge(model.spec))
        return self._people[track_id]

    def ask_gate(self, person: Person, track_id: int, look: Reading) -> None:
        """Pass one look to the gate; another person behind the same track starts without earlier looks."""
        if self._gate is not None:
            person.answer = self._gate.look(look, track_id * PEOPLE_PER_TRACK + person.age.people)


class Answerer:
    """Runs the model on the faces of the first stage."""

    def __init__(self, model: Model, gate: Gate | None) -> None:
        self.model, self._gate = model, gate
        self._people: dict[str, People] = {}  # by source

    def answer(self, sights: Sequence[Sight]) -> tuple[list[FrameResult], Feedback]:
        """Run the model once for all crops of all these frames."""
        clocks = [StageClock.after(sight.laps) for sight in sights]
        for clock in clocks:
            clock.lap("waiting")
        crops = [sight.crops for sight in sights if len(sight.crops)]
        looks: list[_Look] = []
        seconds = 0.0
        if crops:
            together = crops[0] if len(crops) == 1 else np.concatenate(crops)  # [A, S, S, 3]
            started_s = time.perf_counter()
            readings = self.model(together)
            seconds = time.perf_counter() - started_s
            sharp = sharpness(together) if readings.sharpness is None else readings.sharpness
            looks = list(zip(readings, sharp.tolist(), strict=True))
        many, results, doubted = len(looks), list[FrameResult](), dict[tuple[str, int], bool]()
        for sight, clock in zip(sights, clocks, strict=True):
            clock.lap("model")
            mine, looks = looks[: len(sight.asked)], looks[len(sight.asked) :]
            faces = self._faces(sight, dict(zip(sight.asked, mine, strict=True)), doubted)
            clock.lap("age")
            latency_s = time.monotonic() - sight.frame.captured_s
            task = self.model.spec.task
            results.append(FrameResult(sight.frame, faces, latency_s, 0, task, clock.times_s, sight.hide_xyxy))
        return results, Feedback(many, seconds, doubted)

    def _faces(self, sight: Sight, looks: dict[int, _Look], doubted: dict[tuple[str, int], bool]) -> tuple[Face, ...]:
        """Every face with its estimate; `looks` contains the new look and its sharpness, by face."""
        faces: list[Face] = []
        for i, box in enumerate(sight.faces.boxes_xyxy.tolist()):
            look, sharp = looks.get(i, (None, 0.0))
            reason = sight.refused[i] if look is None else disbelief(look, sharp)
            believed = look if reason is None else None
            reading, answer, track_id = believed, None, None if sight.track_ids is None else sight.track_ids[i]
            if track_id is not None:
                people = self._people_of(sight.frame.source)
                person = people.at(track_id, sight, self.model)
                if believed is not None:
                    person.age.look(believed, quality(float(sight.views[i]), sharp), sight.frame.time_s)
                    people.ask_gate(person, track_id, believed)
                    doubted[sight.frame.source, track_id] = person.age.doubted
                if look is not None or reason is not None:
                    person.reason = reason
                reading, answer, reason = person.age.shown, person.answer, person.reason
            elif believed is not None and self._gate is not None:
                answer = TrackGate(self._gate).look(believed, None)
            if answer is None and self._gate is not None:
                answer = self._gate.unseen
            faces.append(
                Face(
                    box_xyxy=tuple(box),
                    score=float(sight.faces.scores[i]),
                    landmarks=None if sight.faces.landmarks is None else sight.faces.landmarks[i],
                    reading=reading,
                    look=believed,
                    track_id=track_id,
                    fresh=look is not None,
                    reason=(reason or WAITING) if reading is None else None,
                    gate=answer,
                )
            )
        return tuple(faces)

    def _people_of(self, source: str) -> People:
        if source not in self._people:
            self._people[source] = People(self._gate)
        return self._people[source]
