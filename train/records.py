"""The metadata of a checkpoint as frozen records, and the function that reads such records from JSON."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ..runtime.contract.licences import Licence
from .method import Method
from .tasks_file import Task

if TYPE_CHECKING:
    Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
else:
    Json = object  # any value, as the argument of from_json
T = TypeVar("T")

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TowersRecord:
    """What is needed to rebuild both towers, and the weights that they started from."""

    name: str
    """open_clip's model name, or one of `train/towers/`."""
    config: Mapping[str, Json]
    """The model's config in open_clip's format."""
    pretrained: str | None
    """Tag or file name of the weights that the towers started from; None: random weights."""
    language_pretrained: bool
    """Whether the text tower was pre-trained on language."""
    image_side: int
    """Side of the crops, px."""
    image_mean: tuple[float, ...]
    """Per channel (RGB), in [0, 1]."""
    image_std: tuple[float, ...]
    """Per channel (RGB), in [0, 1]."""
    quick_gelu: bool
    """Whether the towers use QuickGELU, as OpenAI's do."""


@dataclass(frozen=True)
class PromptRecord:
    """Sizes of the learnable sentences."""

    context: int
    """Number of context tokens, shared by all bins."""
    counts: tuple[int, ...]
    """Number of word tokens of each bin."""
    base_ranks: int = 0
    """Number of learned embeddings from which all ranks are interpolated; 0: words."""


@dataclass(frozen=True)
class DataCounts:
    """Numbers of pictures of one data set in a training."""

    n: int
    skipped: int
    """Pictures without a detected face."""
    copies: int
    """Duplicates (identical files) that were dropped."""
    conflicting: int
    """Identical files with different labels; all were dropped."""


@dataclass(frozen=True)
class Source:
    """A source that a network learned from, and its licence."""

    kind: Literal["data", "start weights", "teacher"]
    name: str
    licence: Licence
    """Its licence or terms of use."""


@dataclass(frozen=True)
class Predictions:
    """Another network's predictions for training pictures, to distil from."""

    name: str
    """The network's file."""
    licence: Licence
    """The network's licence."""
    words: tuple[str, ...]
    """The K words of the task that the probabilities are for."""
    faces: Mapping[str, tuple[float, ...]]
    """By picture, as the data set names it: the value, and the probability of each word."""


@dataclass(frozen=True)
class TrainingRecord:
    """How the weights of a checkpoint were trained, and their errors on the split on which they were selected."""

    data: Mapping[str, DataCounts] = field(default_factory=lambda: dict[str, DataCounts]())
    """Numbers of pictures, by data set."""
    epoch: int = 0
    """The selected epoch, from 1."""
    val_mae: Mapping[str, float] = field(default_factory=lambda: dict[str, float]())
    """Mean absolute error in the task's unit, by data set."""
    val_cs5: Mapping[str, float] = field(default_factory=lambda: dict[str, float]())
    """Share of faces with an error of at most 5 units, by data set."""
    val_coarse: Mapping[str, float] = field(default_factory=lambda: dict[str, float]())
    """Share of faces whose most likely word is the correct one, by data set."""
    selected_on: str = "val"
    """The split on which the epoch was selected."""
    flags: Mapping[str, Json] = field(default_factory=lambda: dict[str, Json]())
    """The options of the training, without local folder names."""
    versions: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    """Versions of Python and of the libraries."""
    sources: tuple[Source, ...] | None = None
    """Everything that this network, its start weights and its teachers learned from; None in files older than this field."""
    rebin: Mapping[str, Json] | None = None
    """What `numclip rebin` changed."""


@dataclass(frozen=True)
class CheckpointRecord:
    """Everything in a checkpoint apart from its weights."""

    task: Task
    method: Method
    towers: TowersRecord
    prompt: PromptRecord
    training: TrainingRecord
    schema_version: int = SCHEMA_VERSION


def to_json(record: object) -> dict[str, Json]:
    """Convert a record to plain JSON values."""
    return cast(dict[str, Json], asdict(record))  # pyright: ignore[reportArgumentType]  (a dataclass instance)


def from_json(kind: type[T], raw: object, where: str) -> T:
    """Build a value of type `kind` from plain JSON values, including nested records.

    Unknown fields, missing fields and values of a wrong type raise ValueError with the path of the field.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is object:  # any JSON value
        return cast(T, raw)
    if origin in (Union, types.UnionType):  # a type or None
        return cast(T, None if raw is None else from_json(next(k for k in inner if k is not type(None)), raw, where))
    if origin is Literal and raw in inner:
        return cast(T, raw)
    if is_dataclass(kind) and isinstance(raw, Mapping):
        hints, values = get_type_hints(kind), cast(Mapping[str, object], raw)
        wrong = [f"no field {name}" for name in values if name not in hints]
        needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
        wrong += [f"the field {name}" for name in needed if name not in values]
        if wrong:
            raise ValueError(f"{where}: expected {wrong[0]}")
        return kind(**{name: from_json(hints[name], value, f"{where}.{name}") for name, value in values.items()})
    if origin is tuple and isinstance(raw, (list, tuple)):
        items = list(cast(Sequence[object], raw))
        kinds = [inner[0]] * len(items) if inner[-1] is Ellipsis else list(inner)
        if len(kinds) == len(items):
            return cast(T, tuple(from_json(k, v, f"{where}[]") for k, v in zip(kinds, items, strict=True)))
    elif origin is not None and isinstance(raw, Mapping):
        named = cast(Mapping[str, object], raw)
        return cast(T, {name: from_json(inner[1], value, f"{where}.{name}") for name, value in named.items()})
    elif kind is float and isinstance(raw, (int, float)) and not isinstance(raw, bool):
        return cast(T, float(raw))
    elif isinstance(kind, type) and isinstance(raw, kind) and (kind is bool or not isinstance(raw, bool)):
        return cast(T, raw)
    raise ValueError(f"{where}: expected {getattr(kind, '__name__', kind)}, got {raw!r}"[:200])
