"""Ordinal tasks as data: the bins, their words and the sentence that the words complete.

A task is a JSON file in `train/tasks/` (or any path): name, unit, range, context, and the bins as a rising list of
`{"from": edge, "word": word}`; `to` closes the last bin; and how a face is cut for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError, UsageError
from ..runtime.spec import BoxRule, CropSpec, TaskSpec, check_task

TASKS = Path(__file__).parent / "tasks"


@dataclass(frozen=True)
class Task:
    """What the model file keeps of a task, and the context sentence, which only training needs."""

    spec: TaskSpec
    context: str  # "age estimation: the person is a"
    landmarks: tuple[tuple[float, float], ...]  # five (x, y) in [0, 1] of the crop's side
    box_rules: dict[str, BoxRule]

    def crop(self, side: int) -> CropSpec:
        """The crop contract at a tower's input side, px."""
        return CropSpec(side, self.landmarks, box_rules=self.box_rules)


def load_task(name_or_path: str) -> Task:
    """A task by its name in train/tasks/ or by the path of a JSON file; raises UsageError or ModelError."""
    path = Path(name_or_path) if name_or_path.endswith(".json") else TASKS / f"{name_or_path}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in TASKS.glob("*.json")))
        raise UsageError(f"expected a task ({known}) or a .json file, got {name_or_path!r}; choose one of them")
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        bins = raw["bins"]
        spec = TaskSpec(
            name=str(raw["name"]),
            unit=str(raw["unit"]),
            low=float(raw["low"]),
            high=float(raw["high"]),
            bin_edges=(*(float(b["from"]) for b in bins), float(raw["to"])),
            words=tuple(str(b["word"]) for b in bins),
        )
        landmarks = tuple((float(x), float(y)) for x, y in raw["crop"]["landmarks"])
        rules = {name: BoxRule(**rule) for name, rule in raw["crop"]["box_rules"].items()}
        task = Task(spec, str(raw["context"]), landmarks, rules)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path}: expected a task with name, unit, low, high, context, bins, to and crop, failed at {error}; correct the file"
        ) from None
    check_task(spec)
    return task
