"""What works on this machine, and the exact line to type for what does not.

Every check really does what it reports: devices run the model, cameras give frames, the cache takes a file. The exit
code is 1 while a problem stands. A line under a finding that is ok is an option, not a fault.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from ..runtime.places import write_json
from . import board as doctor_board
from . import cameras as doctor_cameras
from . import devices as doctor_devices
from . import files as doctor_files
from . import packages as doctor_packages
from .finding import PACKAGE, Finding, without_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip doctor`."""
    parser.add_argument(
        "--camera", action="append", metavar="SOURCE", help="open this camera or stream, in place of all that are found"
    )
    parser.add_argument(
        "--json", metavar="FILE|-", help="the findings as JSON, for a bug report; names no user, host, address or place"
    )


def run(args: argparse.Namespace) -> int:
    """Look at everything; exit code 1 if anything needs fixing."""
    findings: list[Finding] = []
    for finding in look(args.camera):
        findings.append(finding)
        if args.json != "-":
            print(f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.check:<18} {finding.said}", flush=True)
            if finding.fix:
                print(f"{'':<28}{finding.fix}", flush=True)
    problems = sum(not finding.ok for finding in findings)
    if args.json:
        write_json(args.json, report(findings, args.camera or []))
    if args.json != "-":
        lines = "problem: type the line under it" if problems == 1 else "problems: type the lines under them, top down"
        print(f"\n{problems} {lines}" if problems else f"\nnext: {_next(findings)}")
    return 1 if problems else 0


def look(cameras: list[str] | None = None) -> Iterator[Finding]:
    """All findings, in the order one would fix them; cameras: these sources, or None for every camera found."""
    yield from doctor_packages.checks()
    for name, check in (
        ("models", doctor_files.models),
        ("detector yunet", doctor_files.detector),
        ("cache", doctor_files.cache),
        ("devices", doctor_devices.checks),
        ("board", doctor_board.checks),
        ("cameras", lambda: doctor_cameras.checks(cameras)),
    ):
        yield from _told(name, check)


def report(findings: list[Finding], sources: Iterable[str] = ()) -> dict[str, object]:
    """The findings and the machine, as JSON, without a name of anyone or anything; sources: what was typed, to be hidden."""
    try:
        from ..runtime.system import environment
    except ImportError:  # numpy itself may be what is missing
        machine: dict[str, object] = {}
    else:
        machine = environment()
    private = [source for source in sources if not re.fullmatch(r"(/dev/video)?\d+", source)]
    private += [str(Path.cwd()), sys.prefix, str(PACKAGE)]  # with their spaces, where a pattern would stop
    private += [value for name, value in os.environ.items() if name.startswith("NUMCLIP_")]
    told = [
        replace(f, said=without_names(f.said, private), fix=f.fix and without_names(f.fix, private)) for f in findings
    ]
    return {"environment": machine, "findings": [asdict(f) for f in told]}


def _next(findings: list[Finding]) -> str:
    """The next command: live where a camera gives frames, else the demo."""
    cameras = [f.said for f in findings if f.check == "camera" and " x " in f.said]
    return "numclip run 0 --show" if cameras else "numclip demo"


def _told(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check that needs a package which does not load says so; the package's own finding has the line to type."""
    try:
        yield from check()
    except ImportError as error:
        yield Finding(name, False, f"cannot be looked at before the packages above are right ({error})")
