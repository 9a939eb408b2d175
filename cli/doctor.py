"""What works on this machine, and the exact line to type for what does not.

Every check really does what it reports: devices run the model, cameras give frames, the cache takes a file. Problems are
listed with the line to type under each; what is fine is counted, and listed with --all. The exit code is 1 while a
problem stands. A line under a finding that is ok is an option, not a fault.
"""

from __future__ import annotations

import argparse

from ..doctor.diagnosis import Diagnosis, diagnose
from ..doctor.finding import Finding
from ..runtime.places import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip doctor`."""
    parser.add_argument(
        "--camera", action="append", metavar="SOURCE", help="open this camera or stream, in place of all that are found"
    )
    parser.add_argument("--all", action="store_true", help="list what is fine too")
    parser.add_argument(
        "--json", metavar="FILE|-", help="the findings as JSON, for a bug report; names no user, host, address or place"
    )


def run(args: argparse.Namespace) -> int:
    """Look at everything; exit code 1 if anything needs mending."""
    quiet = args.json == "-"
    found = diagnose(args.camera, lambda finding: None if quiet or finding.ok else _show(finding))
    if args.json:
        write_json(args.json, found.to_json())
    if not quiet:
        for finding in found.fine if args.all else ():
            _show(finding)
        print(_summary(found, folded=not args.all))
    return 1 if found.problems else 0


def _show(finding: Finding) -> None:
    print(f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.check:<18} {finding.said}", flush=True)
    if finding.fix:
        print(f"{'':<28}{finding.fix}", flush=True)


def _summary(found: Diagnosis, folded: bool) -> str:
    """What is fine, in a line, and the next thing to do."""
    names = ", ".join(dict.fromkeys(finding.check for finding in found.fine))
    options = sum(finding.fix is not None for finding in found.fine)
    fine = f"{len(found.fine)} checks are fine: {names}"
    also = f"; {options} of them can be changed" if options else ""
    lines = [f"{fine} (--all lists them{also})"] if folded and found.fine else []
    if problems := len(found.problems):
        lines.append(
            "1 problem: type the line under it"
            if problems == 1
            else f"{problems} problems: type the lines under them, top down"
        )
    else:
        lines.append(f"next: numclip {'run 0 --show' if found.sees else 'demo'}")
    return "\n" + "\n".join(lines)
