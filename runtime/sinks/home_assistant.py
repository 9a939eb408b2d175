"""Messages to Home Assistant over MQTT: its sensors (MQTT discovery), and their values at most once a second."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping

from ..contract.spec import TaskSpec
from ..live.frames import SourceEvent
from ..live.results import FrameResult

PREFIX = "homeassistant"  # Home Assistant's default
EVERY_S = 1.0


class HomeAssistant:
    """Sensors: the number of faces, the number of faces per word, and the mean value of the faces with one.

    All sources of a run are added up. The sensors are unavailable while the run is down.
    """

    def __init__(
        self, task: TaskSpec, version: str, counts_only: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """version: of this package. counts_only: no mean value. clock: seconds."""
        self._task, self._version, self._counts_only, self._clock = task, version, counts_only, clock
        self._newest: dict[str, FrameResult] = {}  # by source
        self._said: Mapping[str, object] | None = None
        self._said_s = float("-inf")

    def announcement(self, topic: str) -> tuple[str, dict[str, object]]:
        """(topic, message) that announces one device with its sensors; `topic` is that of the results."""
        name = re.sub(r"[^A-Za-z0-9]+", "_", topic).strip("_")
        device = f"numclip_{name}_{hashlib.sha256(topic.encode()).hexdigest()[:8]}"
        sensors: dict[str, object] = {"faces": _sensor(device, "faces", "faces", "{{ value_json.faces }}")}
        if not self._counts_only:
            mean = _sensor(device, "mean", f"mean {self._task.name}", "{{ value_json.mean }}")
            sensors["mean"] = {**mean, "unit_of_measurement": self._task.unit}
        for i, word in enumerate(self._task.words):
            sensors[f"word_{i}"] = _sensor(
                device, f"word_{i}", word, f"{{{{ value_json.counts[{json.dumps(word)}] }}}}"
            )
        message: dict[str, object] = {
            "device": {"identifiers": [device], "name": f"numclip {topic}", "manufacturer": "numclip"},
            "origin": {"name": "numclip", "sw_version": self._version},
            "components": sensors,
            "state_topic": f"{topic}/state",
            "availability": [{"topic": f"{topic}/status"}],
        }
        return f"{PREFIX}/device/{device}/config", message

    def after(self, result: FrameResult) -> Mapping[str, object] | None:
        """The state after a result; None if nothing changed, or the last state was sent less than EVERY_S ago."""
        self._newest[result.frame.source] = result
        return None if self._clock() < self._said_s + EVERY_S else self._changed()

    def after_event(self, event: SourceEvent) -> Mapping[str, object] | None:
        """The state after an event: a source that stopped shows no faces. None if nothing changed."""
        self._newest.pop(event.source, None)
        return self._changed()

    def now(self) -> Mapping[str, object]:
        """The state at a new connection; what was sent while there was none is lost."""
        self._said = self._state()
        return self._said

    def _changed(self) -> Mapping[str, object] | None:
        state = self._state()
        if state == self._said:
            return None
        self._said, self._said_s = state, self._clock()
        return state

    def _state(self) -> dict[str, object]:
        faces = [face for result in self._newest.values() for face in result.faces]
        ages = [face.age for face in faces if face.age is not None]
        counts = {word: sum(face.word == word for face in faces) for word in self._task.words}
        state: dict[str, object] = {"faces": len(faces), "counts": counts}
        if not self._counts_only:
            state["mean"] = round(sum(ages) / len(ages), 1) if ages else None
        return state


def _sensor(device: str, key: str, name: str, template: str) -> dict[str, object]:
    return {
        "platform": "sensor",
        "unique_id": f"{device}_{key}",
        "name": name,
        "value_template": template,
        "state_class": "measurement",
    }
