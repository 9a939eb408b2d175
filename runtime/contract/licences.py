"""The licences of a model's parts as SPDX identifiers, and whether together they allow commercial use.

A part is described by an SPDX licence expression (https://spdx.org/licenses), with a LicenseRef- where SPDX has no
identifier, and by a sentence for people. The verdict only compares identifiers; it is not legal advice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from .fields import Fields, Json

RESEARCH_ONLY = "LicenseRef-research-only"  # non-commercial research use only, as for most face data sets
UNSTATED = "LicenseRef-unstated"  # no terms are stated

PERMISSIVE = frozenset(
    [
        "0bsd",
        "afl-3.0",
        "apache-2.0",
        "artistic-2.0",
        "bsd-1-clause",
        "bsd-2-clause",
        "bsd-2-clause-patent",
        "bsd-3-clause",
        "bsl-1.0",
        "cc-by-2.0",
        "cc-by-2.5",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc0-1.0",
        "cdla-permissive-1.0",
        "cdla-permissive-2.0",
        "ecl-2.0",
        "hpnd",
        "isc",
        "mit",
        "mit-0",
        "mit-cmu",
        "ms-pl",
        "ncsa",
        "odc-by-1.0",
        "pddl-1.0",
        "postgresql",
        "psf-2.0",
        "python-2.0",
        "unlicense",
        "upl-1.0",
        "x11",
        "zlib",
        "zpl-2.1",
    ]
)
_REFUSED, _UNKNOWN, _PERMITTED = range(3)
_NON_COMMERCIAL = re.compile(r"cc-by-nc(-.*)?|polyform-noncommercial-.*|licenseref-.*(research|non-?commercial).*")
_SAYS_RESEARCH = re.compile(r"research|non-?\s?commercial|academic|not for commercial", re.I)  # in a sentence
_TOKEN = re.compile(r"\s*(\(|\)|[A-Za-z0-9.+-]+)")


@dataclass(frozen=True)
class Licence:
    """The terms of one part: an SPDX expression, a sentence for people, or both."""

    spdx: str | None = None  # "Apache-2.0", "CC-BY-4.0 AND LicenseRef-research-only"; older files have a sentence only
    note: str = ""

    @staticmethod
    def from_text(text: str) -> Licence:
        """An SPDX expression if the text is one, else a sentence."""
        return Licence(None, text) if _level(text) is None else Licence(text)

    def to_json(self) -> Json:
        """A string if only one of the two is given, else both."""
        if self.spdx is None:
            return self.note
        return {"spdx": self.spdx, "note": self.note} if self.note else self.spdx

    def __str__(self) -> str:
        return f"{self.note} ({self.spdx})" if self.spdx and self.note else self.spdx or self.note or "not stated"


@dataclass(frozen=True)
class Licences:
    """The licences of code, weights, backbone (what the image tower started from) and training data; None: not stated.

    The weights' terms follow from the training data, the teachers, and the weights that training started from.
    """

    code: Licence | None = None
    weights: Licence | None = None
    backbone: Licence | None = None  # None also if training started from random weights
    data: Licence | None = None

    @staticmethod
    def from_json(fields: Fields) -> Licences:
        """Read and check; raises ModelError naming the field."""
        licences = Licences(**{part: fields.maybe(part, lambda p: _read(fields, p)) for part in PARTS})
        fields.done()
        return licences

    def stated(self) -> dict[str, Licence]:
        """The parts that are stated, by name."""
        parts = {part: getattr(self, part) for part in PARTS}
        return {part: licence for part, licence in parts.items() if licence is not None}


PARTS = tuple(Licences.__dataclass_fields__)


def combined(licences: Iterable[Licence]) -> Licence:
    """The terms of something made from all of these: all of them apply."""
    parts = list(dict.fromkeys(licences))
    names = dict.fromkeys(part.spdx or UNSTATED for part in parts)
    terms = [f"({name})" if " OR " in name else name for name in names]
    return Licence(" AND ".join(terms) or None, "; ".join(dict.fromkeys(part.note for part in parts if part.note)))


@dataclass(frozen=True)
class Verdict:
    """Whether all parts together allow commercial use."""

    allowed: bool
    parts: tuple[str, ...]  # parts that do not allow it, or do not say so
    why: str  # a sentence


def commercial_use(licences: Licences) -> Verdict:
    """Whether code, weights, backbone and data all allow commercial use, and if not, which one does not.

    A licence counts as permission only if it is known to be permissive. What it does not cover, such as the pictures that the
    start weights learned from, is in the part's note.
    """
    stated = licences.stated()
    if not stated:
        return Verdict(False, PARTS, "the file states no licences")
    said = {part: str(licence) for part, licence in stated.items()}
    said |= {part: "not stated" for part in PARTS if part not in stated and part != "backbone"}
    levels = {part: _judge(stated[part]) if part in stated else _UNKNOWN for part in said}
    for level, opening in ((_REFUSED, ""), (_UNKNOWN, "not known to be permissive: ")):
        parts = tuple(part for part in said if levels[part] == level)
        if parts:
            return Verdict(False, parts, opening + "; ".join(f"{part}: {said[part]}" for part in parts))
    why = "every part has a permissive licence; the notes of the parts say what it does not cover; this is no legal advice"
    return Verdict(True, (), why)


def _judge(licence: Licence) -> int:
    level = None if licence.spdx is None else _level(licence.spdx)
    if level is None or level == _UNKNOWN:  # not an SPDX identifier: the sentence may say
        return _REFUSED if _SAYS_RESEARCH.search(licence.note) else _UNKNOWN
    return level


def _read(fields: Fields, part: str) -> Licence:
    if fields.is_text(part):
        return Licence.from_text(fields.text(part))
    both = fields.object(part)
    licence = Licence(both.text("spdx"), both.text("note"))
    both.done()
    if _level(licence.spdx or "") is None:
        raise both.wrong("spdx", "an SPDX licence expression", repr(licence.spdx))
    return licence


def _level(text: str) -> int | None:
    """What an SPDX expression allows; None for other text. Of `A AND B` the stricter counts, of `A OR B` the freer."""
    tokens: list[str] = []
    at = 0
    while match := _TOKEN.match(text, at):
        tokens.append(match[1])
        at = match.end()
    if text[at:].strip():
        return None
    try:
        return _Expression(tokens).level()
    except ValueError:
        return None


class _Expression:
    """Recursive-descent parser of SPDX's grammar: OR binds loosest, then AND, then WITH."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens

    def level(self) -> int:
        level = self._any()
        return self._fail() if self._tokens else level

    def _any(self) -> int:
        level = self._all()
        while self._next("OR"):
            level = max(level, self._all())
        return level

    def _all(self) -> int:
        level = self._one()
        while self._next("AND"):
            level = min(level, self._one())
        return level

    def _one(self) -> int:
        if self._next("("):
            level = self._any()
            return level if self._next(")") else self._fail()
        name = self._name()
        if self._next("WITH"):
            self._name()  # an exception only adds permissions
        if _NON_COMMERCIAL.fullmatch(name):
            return _REFUSED
        return _PERMITTED if name in PERMISSIVE else _UNKNOWN

    def _name(self) -> str:
        if not self._tokens or self._tokens[0] in ("(", ")", "AND", "OR", "WITH"):
            self._fail()
        return self._tokens.pop(0).lower().removesuffix("+")

    def _next(self, token: str) -> bool:
        found = self._tokens[:1] == [token]
        if found:
            self._tokens.pop(0)
        return found

    def _fail(self) -> NoReturn:
        raise ValueError("no SPDX expression")
