"""Measurements of a calibration on people near a threshold: how many of them exceed each limit, as tables for the gate.

Near means within four years, on the side of the threshold where an answer would be wrong. Each step of a table is a limit
and its error rate: the one-sided 95 % upper bound of Clopper and Pearson (1934) on the share of these people who would get a
wrong answer. Rates below the first step cannot be guaranteed with so few people.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .fields import Fields, Json

NEAR = 4.0  # in the task's unit: errors are counted among people this near to the threshold
AROUND = 10.0  # in the task's unit: unnecessary checks are counted among people up to this far above the threshold
CONFIDENCE = 0.95  # of the bound on an error rate


@dataclass(frozen=True)
class YesStep:
    """A limit on the evidence for yes."""

    rate: float  # upper bound on the share of people near below who exceed the limit
    limit: float  # log odds of being at least the threshold; yes above it
    asked: float  # share of people up to AROUND above the threshold who do not exceed the limit


@dataclass(frozen=True)
class Step:
    """A limit on the evidence for no, or on the value that a challenge age is compared with."""

    rate: float  # upper bound on the share of people near who exceed the limit
    limit: float


@dataclass(frozen=True)
class GateTable:
    """The tables of one threshold. From step to step the rates rise, and the limits approach the center."""

    below: int  # people within NEAR below the threshold
    above: int  # people within NEAR at or above it
    center: float  # log odds at which both errors are equally frequent; no limit crosses it
    yes: tuple[YesStep, ...]
    no: tuple[Step, ...]
    challenge: tuple[Step, ...]  # limits are estimated values, in the task's unit

    @property
    def lowest_error(self) -> float:
        """The lowest error rate that can be guaranteed on both sides."""
        return max(self.yes[0].rate, self.no[0].rate)

    @staticmethod
    def from_json(fields: Fields) -> GateTable:
        """Read and check; raises ModelError naming the field."""
        table = GateTable(
            below=fields.whole("below"),
            above=fields.whole("above"),
            center=fields.number("center"),
            yes=tuple(YesStep(*row) for row in _rows(fields, "yes", 3)),
            no=tuple(Step(*row) for row in _rows(fields, "no", 2)),
            challenge=tuple(Step(*row) for row in _rows(fields, "challenge", 2)),
        )
        fields.done()
        if not (table.yes and table.no and table.challenge):
            raise fields.wrong("yes", "at least one step in each of yes, no and challenge", "none")
        limits: dict[str, tuple[Sequence[YesStep | Step], int]] = {
            "yes": (table.yes, -1),
            "no": (table.no, 1),
            "challenge": (table.challenge, -1),
        }
        for name, (steps, sign) in limits.items():
            if any(a.rate >= b.rate or sign * (b.limit - a.limit) < 0 for a, b in pairwise(steps)):
                raise fields.wrong(name, "rates that rise and limits that approach the threshold", "others")
        return table

    def to_json(self) -> dict[str, Json]:
        """The fields, each step as a list of its numbers."""
        return {
            "below": self.below,
            "above": self.above,
            "center": self.center,
            "yes": [[s.rate, s.limit, s.asked] for s in self.yes],
            "no": [[s.rate, s.limit] for s in self.no],
            "challenge": [[s.rate, s.limit] for s in self.challenge],
        }


def people_needed(rate: float) -> int:
    """How many people near the threshold, all of them answered correctly, it takes to guarantee an error rate of at most `rate`."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-rate))


def _rows(fields: Fields, name: str, width: int) -> tuple[tuple[float, ...], ...]:
    rows = fields.rows(name)
    if any(len(row) != width for row in rows):
        raise fields.wrong(name, f"rows of {width} numbers", [len(row) for row in rows])
    return rows
