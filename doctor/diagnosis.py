"""Every check of `numclip doctor`, in the order in which problems should be fixed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from ..runtime.live.addresses import shown
from ..runtime.places import PACKAGE
from ..runtime.system import Environment, environment
from . import board, cameras, devices, files, packages
from .finding import Finding, FindingRecord


class DiagnosisRecord(TypedDict):
    """A diagnosis as JSON, for a bug report."""

    environment: Environment
    findings: list[FindingRecord]


@dataclass(frozen=True)
class Diagnosis:
    """All findings."""

    findings: tuple[Finding, ...]
    sources: tuple[str, ...] = ()  # named cameras, which a report hides

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that are problems."""
        return tuple(finding for finding in self.findings if not finding.ok)

    @property
    def fine(self) -> tuple[Finding, ...]:
        """The findings that are fine."""
        return tuple(finding for finding in self.findings if finding.ok)

    @property
    def sees(self) -> bool:
        """Whether a camera delivers frames."""
        return any(finding.check == "camera" and " x " in finding.said for finding in self.fine)

    def to_json(self) -> DiagnosisRecord:
        """The findings and the machine, without names of people, hosts or places."""
        named = [source for source in self.sources if not re.fullmatch(r"(/dev/video)?\d+", source)]
        private = [*named, *map(shown, named)]  # messages have the shown form, without the login
        private += [str(Path.cwd()), sys.prefix, str(PACKAGE)]  # listed because a pattern would stop at their spaces
        private += [value for name, value in os.environ.items() if name.startswith("NUMCLIP_")]
        return {"environment": environment(), "findings": [finding.to_json(private) for finding in self.findings]}


def diagnose(sources: Sequence[str] | None = None, each: Callable[[Finding], object] | None = None) -> Diagnosis:
    """Run all checks. sources: these cameras or streams; None: every connected camera.

    `each` is called with every finding as soon as it is known.
    """
    findings: list[Finding] = []
    for finding in look(sources):
        findings.append(finding)
        if each is not None:
            each(finding)
    return Diagnosis(tuple(findings), tuple(sources or ()))


def look(sources: Sequence[str] | None = None) -> Iterator[Finding]:
    """All findings, in the order in which problems should be fixed."""
    yield from packages.checks()
    for name, check in (
        ("models", files.models),
        ("detector faces-nano", files.finder),
        ("detector yunet", files.yunet),
        ("cache", files.cache),
        ("devices", devices.checks),
        ("board", board.checks),
        ("cameras", lambda: cameras.checks(sources)),
    ):
        yield from _told(name, check)


def _told(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Run a check; if it needs a package that does not load, report that. The package's own finding has the command."""
    try:
        yield from check()
    except ImportError as error:
        yield Finding(name, False, f"cannot be checked until the packages above are fixed ({error})")
