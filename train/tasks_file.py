"""Ordinal tasks as data: the bins, their words and the sentence that the words complete.

A task is a JSON file in `train/tasks/` (or any path): FIELDS says what it holds. A new task is a new file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import ModelError, UsageError, did_you_mean
from ..runtime.contract.spec import BoxRule, CropSpec
from ..runtime.contract.task import TaskSpec, check_task
from ..runtime.faces.crops import covering
from ..runtime.faces.detect import WHOLE

TASKS = Path(__file__).parent / "tasks"
# A task on whole pictures has no faces to align; the model file's contract still needs five points.
WHOLE_LANDMARKS = ((0.25, 0.25), (0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0.75, 0.75))

# field: (type, description); the fields in OPTIONAL may be left out
FIELDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "name": (str, "a string, the key of the value in JSON"),
    "unit": (str, "a string, the unit of the value"),
    "low": ((int, float), "a number, the smallest possible value"),
    "high": ((int, float), "a number, the largest possible value"),
    "context": (str, "a string, the sentence that the words complete"),
    "bins": (list, 'a list of {"from": edge, "word": word} with ascending edges'),
    "to": ((int, float), "a number, the end of the last bin"),
    "words_by": (str, f"the source of the words: {', '.join(('paper', 'released code', 'data set', 'ours'))}"),
    "crop": (dict, '{"landmarks": five points, "box_rules": rules} or {"whole_picture": share of the picture to keep}'),
    "about": (str, "a string, a description for people"),
    "released": (
        dict,
        "settings of the authors' code: label_offset, values (one number per bin), epochs, learns_context",
    ),
}
OPTIONAL = ("released",)
WORDS_BY = ("paper", "released code", "data set", "ours")


@dataclass(frozen=True)
class Released:
    """Settings of the authors' code for one task, beyond the method's own switches."""

    label_offset: float = 1.0  # subtracted from the labels
    values: tuple[float, ...] | None = None  # bin values of its regressor; None: the lower edges
    epochs: int = 200
    learns_context: bool = False


@dataclass(frozen=True)
class Task:
    """The part of a task that the model file keeps, and the context sentence, which only training needs."""

    spec: TaskSpec
    context: str  # "age estimation: the person is a"
    landmarks: tuple[tuple[float, float], ...]  # five (x, y) in [0, 1] of the crop's side
    box_rules: dict[str, BoxRule]
    words_by: str = "ours"
    released: Released = Released()

    def crop(self, side: int) -> CropSpec:
        """Return the crop contract for a tower's input side, px."""
        return CropSpec(side, self.landmarks, box_rules=self.box_rules)

    def covering(self, coverage: float) -> Task:
        """Return the same task with crops `coverage` times as wide, which show hair, ears and neck around the face."""
        wider = covering(self.crop(1), coverage)
        return replace(self, landmarks=wider.landmarks, box_rules=dict(wider.box_rules))

    def with_ranks(self) -> Task:
        """Return the same task with one bin per whole number of the scale, named by the number (CoOp, OrdinalCLIP).

        A task that already has one bin per number keeps its words.
        """
        edges = self.spec.bin_edges
        if all(b - a == 1 for a, b in pairwise(edges)):
            return self
        numbers = range(round(edges[0]), round(edges[-1]) + 1)
        ranked = tuple(n - 0.5 for n in numbers) + (numbers[-1] + 0.5,)
        spec = replace(self.spec, bin_edges=ranked, words=tuple(str(n) for n in numbers))
        return replace(self, spec=spec, words_by="ours", released=Released())


def load_task(name_or_path: str) -> Task:
    """Load a task by its name in train/tasks/ or by the path of a JSON file; raises UsageError or ModelError."""
    path = Path(name_or_path) if name_or_path.endswith(".json") else TASKS / f"{name_or_path}.json"
    if not path.is_file():
        if name_or_path.endswith(".json"):
            raise UsageError(f"{path}: there is no such task file; correct the path")
        known = ", ".join(sorted(p.stem for p in TASKS.glob("*.json")))
        raise UsageError(f"expected a task ({known}) or a .json file, got {name_or_path!r}; choose one of them")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: expected a task file in JSON, got an error: {error}; correct the file") from None
    try:
        return task_of(raw)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: not a valid task: {_sentence(error)}; correct the file") from None


def task_of(raw: Any) -> Task:
    """Build a task from its JSON; raises KeyError, TypeError or ValueError that names the field."""
    check_fields(raw)
    bins = raw["bins"]
    for at, entry in enumerate(bins):
        if not isinstance(entry, dict) or set(entry) != {"from", "word"} or not str(entry["word"]).strip():
            raise ValueError(f'bins[{at}]: expected {{"from": edge, "word": word}}, got {entry!r}')
    words = tuple(str(b["word"]) for b in bins)
    if len(set(words)) != len(words):
        raise ValueError(f"bins: expected each word only once, got {list(words)}")
    if raw["words_by"] not in WORDS_BY:
        raise ValueError(f"words_by: expected {', '.join(WORDS_BY)}, got {raw['words_by']!r}")
    edges = (*(float(b["from"]) for b in bins), float(raw["to"]))
    if any(b <= a for a, b in pairwise(edges)):
        raise ValueError(f"bins: expected rising edges (each from, then to), got {list(edges)}")
    spec = TaskSpec(raw["name"], raw["unit"], float(raw["low"]), float(raw["high"]), edges, words)
    check_task(spec)
    landmarks, rules = _crop_of(raw["crop"])
    released = released_of(raw.get("released"), len(words))
    return Task(spec, raw["context"], landmarks, rules, raw["words_by"], released)


def check_fields(raw: Any) -> None:
    """Check that all fields are present, of the right type, and no others; raises ValueError that names the field."""
    if not isinstance(raw, dict):
        raise ValueError(f"expected a JSON object, got {type(raw).__name__}")
    for name in raw:
        if name not in FIELDS:
            raise ValueError(f"{name}: unknown field{did_you_mean(str(name), FIELDS)}")
    for name, (kind, meaning) in FIELDS.items():
        if name not in raw and name not in OPTIONAL:
            raise ValueError(f"{name}: expected {meaning}, got nothing")
        if name in raw and (not isinstance(raw[name], kind) or isinstance(raw[name], bool)):
            raise ValueError(f"{name}: expected {meaning}, got {raw[name]!r}"[:200])


def _crop_of(raw: dict[str, Any]) -> tuple[tuple[tuple[float, float], ...], dict[str, BoxRule]]:
    if set(raw) == {"whole_picture"}:
        return WHOLE_LANDMARKS, {WHOLE: BoxRule(float(raw["whole_picture"]), 0.0, 0.0)}
    if set(raw) != {"landmarks", "box_rules"} or len(raw["landmarks"]) != 5:
        raise ValueError(f"crop: expected {FIELDS['crop'][1]}, got {sorted(raw)}")
    points = tuple((float(x), float(y)) for x, y in raw["landmarks"])
    return points, {name: BoxRule(**rule) for name, rule in raw["box_rules"].items()}


def released_of(raw: dict[str, Any] | None, num_bins: int) -> Released:
    """Build the record from its JSON; None gives the defaults. Raises ValueError that names the field."""
    if raw is None:
        return Released()
    unknown = set(raw) - set(Released.__annotations__)
    values = raw.get("values")
    if unknown or (values is not None and len(values) != num_bins):
        raise ValueError(f"released: expected {FIELDS['released'][1]}, got {raw!r}"[:300])
    return replace(Released(**raw), values=None if values is None else tuple(float(v) for v in values))


def _sentence(error: Exception) -> str:
    return f"field {error}" if isinstance(error, KeyError) else str(error)
