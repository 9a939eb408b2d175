"""Read one JSON object of a model file, field by field; every error is a ModelError that names the field."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

from ...errors import ModelError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Json: TypeAlias = "bool | int | float | str | list[Json] | tuple[Json, ...] | Mapping[str, Json] | None"
JsonObject: TypeAlias = Mapping[str, Json]
T = TypeVar("T")


class Fields:
    """A JSON object and its path in the document; `done` rejects fields that were not read."""

    def __init__(self, raw: JsonObject, where: str = "", advice: str = "export the model again") -> None:
        self._raw, self._where, self._advice, self._read = raw, where, advice, set[str]()

    @staticmethod
    def parse(text: str, advice: str = "export the model again") -> Fields:
        """Parse the document; raises ModelError if it is not a JSON object. advice: what to do about an error in it."""
        try:
            raw: Json = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"the spec is not JSON ({error}); {advice}") from None
        if not isinstance(raw, dict):
            raise ModelError(f"spec: expected a JSON object, got {_short(raw)}; {advice}")
        return Fields(raw, "", advice)

    def __contains__(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._raw.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def wrong(self, name: str, expected: str, got: object, advice: str | None = None) -> ModelError:
        """The error for a field: what was expected, what was found, what to do."""
        return ModelError(f"spec field {self._where}{name}: expected {expected}, got {got}; {advice or self._advice}")

    def done(self) -> None:
        """Raise ModelError for the first field that was not read: it is newer than this version, or misspelt."""
        unknown = sorted(set(self._raw) - self._read)
        if unknown:
            raise ModelError(f"spec field {self._where}{unknown[0]}: unknown field; update numclip")

    def text(self, name: str) -> str:
        """A string."""
        value = self._take(name)
        if not isinstance(value, str):
            raise self.wrong(name, "a string", _short(value))
        return value

    def is_text(self, name: str) -> bool:
        """Whether the field is a string."""
        return isinstance(self._raw.get(name), str)

    def whole(self, name: str) -> int:
        """A whole number."""
        value = self._take(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(name, "a whole number", _short(value))
        return value

    def number(self, name: str) -> float:
        """A finite number."""
        value = self._take(name)
        if not _is_number(value):
            raise self.wrong(name, "a number", _short(value))
        return float(cast(float, value))

    def flag(self, name: str) -> bool:
        """true or false."""
        value = self._take(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false", _short(value))
        return value

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        return self._numbers(name, self._take(name))

    def rows(self, name: str) -> tuple[tuple[float, ...], ...]:
        """A list of lists of finite numbers."""
        return tuple(self._numbers(name, row) for row in self._list(name))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        items = self._list(name)
        if not all(isinstance(item, str) for item in items):
            raise self.wrong(name, "a list of strings", _short(items))
        return tuple(cast("list[str]", items))

    def object(self, name: str, advice: str | None = None) -> Fields:
        """An object; advice: what to do about an error in it."""
        return Fields(self.raw(name), f"{self._where}{name}.", advice or self._advice)

    def objects(self, name: str) -> list[Fields]:
        """A list of objects."""
        places = enumerate(self.raws(name))
        return [Fields(item, f"{self._where}{name}[{at}].", self._advice) for at, item in places]

    def raws(self, name: str) -> list[JsonObject]:
        """A list of unparsed objects."""
        found: list[JsonObject] = []
        for at, item in enumerate(self._list(name)):
            if not isinstance(item, dict):
                raise self.wrong(f"{name}[{at}]", "an object", _short(item))
            found.append(item)
        return found

    def raw(self, name: str) -> JsonObject:
        """An unparsed object, which is only kept and shown."""
        value = self._take(name)
        if not isinstance(value, dict):
            raise self.wrong(name, "an object", _short(value))
        return value

    def maybe(self, name: str, read: Callable[[str], T]) -> T | None:
        """The field, read by `read` (a method of this object); None if it is absent or null."""
        self._read.add(name)
        return read(name) if name in self else None

    def each(self, read: Callable[[str], T]) -> dict[str, T]:
        """Every field, read by `read`, by name."""
        return {name: read(name) for name in self}

    def _take(self, name: str) -> Json:
        self._read.add(name)
        return self._raw.get(name)

    def _list(self, name: str) -> list[Json]:
        value = self._take(name)
        if not isinstance(value, list):
            raise self.wrong(name, "a list", _short(value))
        return value

    def _numbers(self, name: str, value: Json) -> tuple[float, ...]:
        if not isinstance(value, list) or not all(map(_is_number, value)):
            raise self.wrong(name, "a list of numbers", _short(value))
        return tuple(float(cast(float, number)) for number in value)


def to_json(record: DataclassInstance) -> dict[str, Json]:
    """A record as a JSON object, nested records included, without the fields that are None.

    A nested record that has its own `to_json` is written by that.
    """
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def to_text(content: JsonObject) -> str:
    """One line of JSON with sorted keys, so that equal specs have equal bytes."""
    return json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _plain(value: object) -> Json:
    own = getattr(value, "to_json", None)
    if callable(own):
        return cast(Json, own())
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in cast("Mapping[str, object]", value).items()}
    if isinstance(value, (tuple, list)):
        return [_plain(inner) for inner in cast("tuple[object, ...]", value)]
    return cast(Json, value)


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: object) -> str:
    return "nothing" if value is None else repr(value)[:60]
